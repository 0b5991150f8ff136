"""The ledgers of a training in Redis: its progress, and what was lost or doubled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import redis

from roomgrad import exact_json
from roomgrad.display import format_number, number
from roomgrad.names import Names
from roomgrad.systems import Progress
from roomgrad_trebuchet.contract import CONTROLMODEL, TRAINER

LOSSES = "losses"


class Loss(NamedTuple):
    """The loss of one batch before its step."""

    step: int
    loss: float
    miss_m: float = math.nan
    """NaN if the system records no miss."""


@dataclass(frozen=True)
class Ledger:
    """The counters of a run at one moment."""

    sent: int = 0
    finished: int = 0
    dead: int = 0
    open: int = 0
    applied: int = 0
    distinct: int = 0
    staleness: int = 0
    newest: Loss | None = None

    @property
    def lost(self) -> int:
        """Batches that are neither finished nor open nor dead; 0 unless something is wrong."""
        return self.sent - self.finished - self.open - self.dead

    @property
    def duplicates(self) -> int:
        """Optimizer steps that were applied twice; 0 unless something is wrong."""
        return self.applied - self.distinct

    @property
    def mean_staleness(self) -> float:
        """Mean steps between the weights of a forward and those its gradient was applied to."""
        return self.staleness / self.applied if self.applied else 0.0


def read(client: redis.Redis, names: Names) -> Ledger:
    """Return the counters, read in one transaction."""
    with client.pipeline(transaction=True) as together:
        together.hmget(names.counters(TRAINER), "sent", "finished", "dead")
        together.hmget(names.counters(CONTROLMODEL), "applied", "distinct", "staleness")
        together.hlen(names.memory(TRAINER))
        trainer, model, open_ = together.execute()
    sent, finished, dead = (int(value or 0) for value in trainer)
    applied, distinct, staleness = (int(value or 0) for value in model)
    newest = _newest(client, names, finished) if sent else None
    return Ledger(sent, finished, dead, int(open_), applied, distinct, staleness, newest)


def progress(client: redis.Redis, names: Names) -> Progress | None:
    """Return how far the training is; None before its first batch."""
    now = read(client, names)
    if not now.sent:
        return None
    details = []
    if now.newest is not None:
        details.append(f"loss {format_number(now.newest.loss)}")
        if not math.isnan(now.newest.miss_m):
            details.append(f"mean miss {now.newest.miss_m:.2f} m")
    return Progress(
        now.finished, _planned(client, names) or now.sent, "batches", tuple(details), figures=now
    )


def _planned(client: redis.Redis, names: Names) -> int:
    """Return how many batches the trainer sends in all; 0 if its settings do not tell."""
    stored = client.hget(names.run_info(), f"settings:{TRAINER}")
    settings = exact_json.loads(stored) if isinstance(stored, bytes) else {}
    return int(settings.get("train_steps", 0))


def losses(client: redis.Redis, names: Names) -> list[Loss]:
    """Return the stored losses of all batches, by step."""
    return sorted(_loss(value) for value in client.hvals(names.table(LOSSES)))


def weights_sha256(client: redis.Redis, names: Names, component: str = CONTROLMODEL) -> str:
    """Return the SHA-256 of the model's weights; empty if there is no model yet."""
    from roomgrad.inspect import models  # needs the package safetensors, of `roomgrad[cli]`

    return models.sha256(client, names, component)


def _newest(client: redis.Redis, names: Names, finished: int) -> Loss | None:
    """Return the newest loss: batches count from 0, and store theirs before they finish."""
    near = [finished + ahead for ahead in (1, 0, -1, -2)]
    found = client.hmget(names.table(LOSSES), [str(number) for number in near])
    return next((_loss(value) for value in found if value), None)


def _loss(value: bytes | str) -> Loss:
    fields = exact_json.loads(value)
    return Loss(int(fields["step"]), number(fields["loss"]), number(fields.get("miss_m")))
