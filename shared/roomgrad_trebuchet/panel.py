"""The trebuchet on the dashboard: its ledger, and the last batch as the simulator shot it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from roomgrad import codec
from roomgrad.commit import TIMES_FIELD
from roomgrad.errors import DecodeError
from roomgrad.names import Names
from roomgrad.runtime.handling_times import Times
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import FORWARD, INPUT, MODEL


class Panel:
    """Reads what `static/panel.js` shows of one run."""

    static = Path(__file__).parent / "static"

    def __init__(self, names: Names) -> None:
        self._names = names

    def read(self, client: redis.Redis) -> dict[str, Any]:
        """Return the counters of the ledger, and the last shots; None for what does not exist."""
        return {"ledger": self._ledger(client), "shots": last_shots(client, self._names)}

    def _ledger(self, client: redis.Redis) -> dict[str, int] | None:
        counted = ledger.read(client, self._names)
        if not counted.sent:
            return None
        return {
            "finished": counted.finished,
            "applied": counted.applied,
            "lost": counted.lost,
            "duplicates": counted.duplicates,
        }


def last_shots(client: redis.Redis, names: Names) -> dict[str, Any] | None:
    """Return the shots whose trajectories the simulator stored last; None if there are none yet.

    `ways` is `(shots, frames, 2)`, `arm` and `counterweight` of the first shot are `(frames, 2)`,
    all in m from the pivot. `targets` is `(shots,)` in m, empty if the stream has been trimmed
    behind the message that holds them.
    """
    stored: Any = client.hget(names.table("trajectories"), "last")
    if stored is None:
        return None
    record = codec.unpack(stored)
    ways = record.get("way", [])
    return {
        "at": record.get("at", 0.0),
        "root": record.get("root", ""),
        "ways": ways,
        "arm": record.get("arm", []),
        "counterweight": record.get("counterweight", []),
        "targets": _targets(client, names, str(record.get("entry", "")))[: len(ways)],
    }


def _targets(client: redis.Redis, names: Names, entry: str) -> list[float]:
    """Return the targets of a batch in m, by the control model's entry in the room `model`."""
    shot = _entry(client, names.stream(MODEL.name, FORWARD.value), entry)
    times = Times.read(shot.get(TIMES_FIELD, b"")) if shot else None
    if times is None:
        return []
    asked = _entry(client, names.stream(INPUT.name, FORWARD.value), times.answers)
    if not asked:
        return []
    try:
        body = codec.parse_body(asked[b"m"])
        spec = body["DATA"]
        if isinstance(spec, dict):
            spec = codec.array_from("DATA", spec["$array"], asked[b"DATA"])
        return [round(float(row[1]), 2) for row in spec]
    except (DecodeError, KeyError, IndexError, TypeError, ValueError):
        return []


def _entry(client: redis.Redis, key: str, entry: str) -> dict[bytes, bytes]:
    found: Any = client.xrange(key, entry, entry) if entry else []
    return found[0][1] if found else {}
