"""How the training of a run goes: its loss, and by how much it misses, over steps."""

from __future__ import annotations

from typing import Any

import redis

from roomgrad.inspect.series import Series, thinned
from roomgrad.names import Names
from roomgrad_trebuchet import ledger

LOSSES = "losses"


class Curve:
    """The losses of a run. What was read is kept, and only what is new is read."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._series = Series(names.table(LOSSES))

    def read(self, client: redis.Redis) -> dict[str, Any]:
        """`loss` and `miss` as points `[step, value]`, thinned; and the counters, if there are."""
        self._series.update(client)
        records = [each for each in self._series.records.values() if "loss" in each]
        counted = ledger.read(client, self._names)
        return {
            "run": self._names.run,
            "loss": thinned([[each["step"], each["loss"]] for each in records]),
            "miss": thinned([[e["step"], e["miss_m"]] for e in records if "miss_m" in e]),
            "sent": counted.sent,
            "finished": counted.finished,
            "applied": counted.applied,
            "lost": counted.lost if counted.sent else 0,
            "duplicates": counted.duplicates,
        }
