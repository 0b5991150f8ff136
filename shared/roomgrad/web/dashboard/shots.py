"""The last shots of the trebuchet: the simulator's own solution, and what was aimed at."""

from __future__ import annotations

from typing import Any

import redis

from roomgrad import codec
from roomgrad.commit import TIMES_FIELD
from roomgrad.errors import DecodeError
from roomgrad.names import Names
from roomgrad.runtime.handling_times import Times
from roomgrad_trebuchet.contract import FORWARD, INPUT, MODEL


def last(client: redis.Redis, names: Names) -> dict[str, Any] | None:
    """Ways, arm and counterweight of the last pictured shots, with their targets; None: none yet.

    `ways` is `(shots, frames, 2)` in m from the pivot; `targets` `(shots,)` in m, or empty where
    the message with them is not kept any more.
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
    """Of the batch that the control model answered by an entry of the room `model`."""
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
    if not entry:
        return {}
    found: Any = client.xrange(key, entry, entry)
    return found[0][1] if found else {}
