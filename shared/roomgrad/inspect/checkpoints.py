"""The checkpoints of a model: which are kept, and by which policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad.errors import SettingsError
from roomgrad.inspect import models
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.snapshots import checkpoints, pointers
from roomgrad.snapshots.checkpoints import Policy
from roomgrad.snapshots.pointers import Snapshot


@dataclass(frozen=True)
class Kept:
    """What a run keeps of a model."""

    policy: Policy | None
    checkpoints: Sequence[Snapshot]
    """Newest first."""

    @property
    def best(self) -> Snapshot | None:
        """The checkpoint with the best score by the policy."""
        return self.policy.best_of(self.checkpoints) if self.policy else None


def find(client: redis.Redis, names: Names, component: str) -> Kept:
    """Return policy and checkpoints of a model.

    Raises RoomgradError if the component has no model, and SnapshotError.
    """
    _, keep, value = models.fields(client, names, component, checkpoints.FIELD, pointers.FIELD)
    kept = [each for each in pointers.from_json(value) if each.checkpoint]
    return Kept(checkpoints.from_json(keep), kept)


def check_metric(client: redis.Redis, names: Names, metric: str) -> None:
    """Raise SettingsError if no component of the run measures this metric."""
    table, _, field = metric.rpartition(".")
    declared = registry.declared_in(client, names).values()
    tables = sorted({name for each in declared for name in each.tables})
    if table not in tables:
        raise SettingsError(
            f"--best {metric}: expected TABLE.FIELD with a table of this run: "
            f"{', '.join(tables) or 'no component writes one'}"
        )
    known = _measured(client, names.table(table))
    if known and field not in known:
        raise SettingsError(
            f"--best {metric}: records of {table} have no number {field!r}, but "
            f"{', '.join(sorted(known))}"
        )


def _measured(client: redis.Redis, table: str) -> set[str]:
    """Return the names of the numbers in the newest record of a table."""
    fields: Any = client.hkeys(table)
    newest = max((int(name) for name in fields if name.isdigit()), default=None)
    if newest is None:
        return set()
    record: Any = client.hget(table, str(newest))
    return set(checkpoints.numbers_of(record))
