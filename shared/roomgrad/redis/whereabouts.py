"""Where a root is: the message of it that a component has, or for which one has yet to come."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad import scripts
from roomgrad.clock import server_time
from roomgrad.names import Names, is_client_group
from roomgrad.rooms import Stream, System

NEWEST = 1000  # entries of a stream that are searched
ROOT_ID_BYTES = 128


@dataclass(frozen=True)
class Whereabouts:
    """A message of a root that waits for a component, or that one of its replicas has."""

    stream: Stream
    component: str
    since_s: float
    """For how long, in seconds."""

    consumer: str = ""
    """The replica that has it; empty if it waits."""

    deliveries: int = 0

    def describe(self, alive: Collection[str], run: str) -> str:
        """Return it as a sentence. alive: the consumers that have a heartbeat."""
        what = f"{self.stream.type} in room {self.stream.room}"
        if self.consumer:
            state = "which is alive" if self.consumer in alive else "which is dead"
            return (
                f"{what} has been with {self.consumer}, {state}, for {self.since_s:.1f} s, "
                f"delivery {self.deliveries}"
            )
        waits = f"{what} has waited {self.since_s:.1f} s for {self.component}"
        if any(consumer.partition("~")[0] == self.component for consumer in alive):
            return f"{waits}, which is alive: `roomgrad lag --run {run}` shows how far behind it is"
        start = f"`roomgrad doctor --run {run}` says how to start it"
        return f"{waits}, of which no replica is alive: {start}"


def find(client: redis.Redis, names: Names, system: System, root_id: str) -> Whereabouts | None:
    """Return where a root is; None if all messages of it that are stored were handled."""
    now_s = server_time(client)
    for stream in system.streams:
        key = names.stream(*stream.key)
        for entry in _entries(client, key, root_id):
            for group in _groups(client, key):
                name = group["name"].decode(errors="replace")
                if is_client_group(name):
                    continue
                if _number(entry) > _number(group["last-delivered-id"]):
                    since_s = now_s - _number(entry)[0] / 1000
                    return Whereabouts(stream, name, max(0.0, since_s))
                if held := _held(client, key, name, entry):
                    consumer = held["consumer"].decode(errors="replace")
                    since_s = held["time_since_delivered"] / 1000
                    return Whereabouts(stream, name, since_s, consumer, held["times_delivered"])
    return None


def _entries(client: redis.Redis, key: str, root_id: str) -> Iterator[bytes]:
    """Yield the IDs of a root's entries in a stream, without reading arrays, the newest first."""
    script: Any = client.eval_ro
    found = script(scripts.load("headers"), 1, key, "+", NEWEST, ROOT_ID_BYTES, "ROOT_ID")
    return (entry for entry, head, _ in found if head[1:] == [root_id.encode()])


def _groups(client: redis.Redis, key: str) -> list[dict[str, Any]]:
    found: Any = client.xinfo_groups(key)
    return list(found)


def _held(client: redis.Redis, key: str, group: str, entry: bytes) -> dict[str, Any] | None:
    found: Any = client.xpending_range(key, group, entry, entry, 1)
    return dict(found[0]) if found else None


def _number(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number or 0)
