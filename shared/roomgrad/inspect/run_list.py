"""The runs of a server: what each is, whether it lives, when it last moved, and its size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis

from roomgrad.clock import server_time
from roomgrad.inspect.keys import runs_on, scan_keys
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.cluster import switch_run
from roomgrad.redis.registry import system_of_run

SAMPLES = 5  # elements of a key that the server measures


@dataclass(frozen=True)
class RunState:
    """A run on a server."""

    run: str
    system: str
    """The name of its system; empty if its contract is unknown."""

    alive: int
    """The number of its live replicas."""

    still_s: float | None
    """Seconds since its newest message; None if it never had one."""

    keys: int
    bytes: int
    """The memory that its keys take on the server."""


def inspect(client: redis.Redis) -> list[RunState]:
    """Return the runs of a server, the one that moved last first."""
    now_s = server_time(client)
    found = [_state(client, run, now_s) for run in runs_on(client)]
    return sorted(found, key=lambda each: (each.still_s is None, each.still_s, each.run))


def _state(client: redis.Redis, run: str, now_s: float) -> RunState:
    names = Names(run)
    switch_run(client, run)
    keys = scan_keys(client, names.everything())
    system = system_of_run(client, names)
    return RunState(
        run,
        system.name if system else "",
        heartbeats.living(client, names).total(),
        _still_s(client, names, now_s),
        len(keys),
        sum(each for each in _answers(client, "memory_usage", keys) if isinstance(each, int)),
    )


def _still_s(client: redis.Redis, names: Names, now_s: float) -> float | None:
    streams = _answers(client, "xinfo_stream", scan_keys(client, names.everything(), "stream"))
    ids = [each["last-generated-id"] for each in streams if isinstance(each, dict)]
    newest_ms = max((int(each.partition(b"-")[0]) for each in ids), default=0)
    return max(0.0, now_s - newest_ms / 1000) if newest_ms else None


def _answers(client: redis.Redis, command: str, keys: list[str]) -> list[Any]:
    """Return the server's answer for each key; an exception where it refuses."""
    more = {"samples": SAMPLES} if command == "memory_usage" else {}
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            getattr(pipeline, command)(key, **more)
        return list(pipeline.execute(raise_on_error=False))
