"""Checkpoints: snapshots that stay, by a policy in a field of the model's hash."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Annotated

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from roomgrad.codec import unpack
from roomgrad.errors import DecodeError
from roomgrad.names import Names
from roomgrad.snapshots.pointers import Score, Snapshot
from roomgrad.snapshots.redis_store import Call, execute

FIELD = b"keep"
_READ = 1000  # records of one read


@dataclass(
    frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
)
class Policy:
    """Which snapshots of a model stay as checkpoints."""

    every: Annotated[int, Field(ge=1)]
    """The first snapshot at or after each multiple of so many steps is one."""

    last: Annotated[int, Field(ge=1)]
    """So many of the newest stay."""

    best: str = ""
    """TABLE.FIELD of the metric by which the best one stays besides; empty for none."""

    highest: bool = False
    """Whether the highest mean is the best, and not the lowest."""

    def is_due(self, step: int, since: int) -> bool:
        """Return whether a multiple was reached after the step of the newest snapshot."""
        return step // self.every > since // self.every

    def apply(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Return the same snapshots, of which those that are to stay are checkpoints.

        snapshots: newest first, like the result.
        """
        last = [each for each in snapshots if each.checkpoint][: self.last]
        best = self.best_of(snapshots)
        return [
            replace(each, checkpoint=each.checkpoint and (each in last or each is best))
            for each in snapshots
        ]

    def best_of(self, snapshots: Sequence[Snapshot]) -> Snapshot | None:
        """Return the checkpoint with the best score, the newest of equals; None without a score."""
        scored = [each for each in snapshots if each.checkpoint and self._mean(each) is not None]
        choose = max if self.highest else min
        return choose(scored, key=self._mean, default=None)  # type: ignore[arg-type]

    def _mean(self, snapshot: Snapshot) -> float | None:
        score = snapshot.score
        return score.mean if score is not None and score.metric == self.best else None

    def score(self, call: Call, names: Names, before: Sequence[Snapshot]) -> Score | None:
        """Return the mean of the metric in the records that were stored since the last score.

        Records are numbered fields of the table; the newest `every` count at most. None without.

        before: the snapshots that are stored.

        Raises SnapshotError if the server refuses.
        """
        if not self.best:
            return None
        table, _, field = self.best.rpartition(".")
        key = names.table(table).encode()
        scores = [each.score for each in before if each.score is not None]
        counted = max((each.record for each in scores if each.metric == self.best), default=-1)
        numbers = sorted(int(name) for name in execute(call, b"HKEYS", key) if name.isdigit())
        new = [number for number in numbers if number > counted][-self.every :]
        values = list(_values(call, key, new, field))
        if not values:
            return None
        return Score(metric=self.best, mean=math.fsum(values) / len(values), record=new[-1])


_POLICY = TypeAdapter(Policy)


def to_json(policy: Policy) -> bytes:
    """Return the value of the field for a policy."""
    return orjson.dumps(asdict(policy))


def from_json(value: bytes | None) -> Policy | None:
    """Return the policy of a model; None without one, or if it cannot be read."""
    try:
        return None if value is None else _POLICY.validate_json(value)
    except ValidationError:
        return None


def _values(call: Call, key: bytes, numbers: Sequence[int], field: str) -> Iterator[float]:
    for start in range(0, len(numbers), _READ):
        names = [b"%d" % number for number in numbers[start : start + _READ]]
        for record in execute(call, b"HMGET", key, *names):
            value = numbers_of(record).get(field)
            if value is not None:
                yield value


def numbers_of(record: bytes | None) -> dict[str, float]:
    """Return the finite numbers of a record by name."""
    try:
        fields = unpack(record or b"{}")
    except DecodeError:
        return {}
    return {
        name: float(value)
        for name, value in fields.items()
        if isinstance(value, int | float) and abs(value) <= sys.float_info.max
    }
