"""The keys of a server: which runs it holds, and which streams a run has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

import redis

from roomgrad.inspect.members import order
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.redis.cluster import each_master

MOST_SCANS = 1000  # of a thousand keys each: other programs may fill the server with keys

StreamKey = tuple[str, str]
"""Room and TYPE of a stream."""

EntryId = tuple[int, int]


def entry_id(entry: str) -> EntryId:
    """Return an entry ID as two numbers, which can be compared; the first is Unix time in ms."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def scan_keys(client: redis.Redis, pattern: str, kind: str | None = None) -> list[str]:
    """Return the keys that match a pattern, sorted. On a very large server some may be missing."""
    found: set[str] = set()
    cursor = 0
    for _ in range(MOST_SCANS):
        answer: Any = client.scan(cursor, match=pattern, count=1000, _type=kind)
        cursor, keys = answer
        found |= {key.decode(errors="replace") for key in keys}
        if cursor == 0:
            break
    return sorted(found)


def runs_on(client: redis.Redis) -> list[str]:
    """Return the names of the runs on a server, or on all masters of a cluster."""
    found = {key for each in each_master(client) for key in scan_keys(each, "{*}:run", "hash")}
    return [_run_of(key) for key in sorted(found)]


def newest_run(client: redis.Redis) -> str:
    """Return the run that was sent a message last, of those with a live replica if there are any.

    Empty if the server holds no run.
    """
    masters = list(each_master(client))
    alive = {_run_of(key) for each in masters for key in scan_keys(each, "{*}:alive:*", "string")}
    runs = alive & set(runs_on(client)) or set(runs_on(client))
    if len(runs) < 2:
        return next(iter(runs), "")
    moved = [found for each in masters for found in _moves(each, runs)]
    return max(moved, default=(0, min(runs)))[1]


def _moves(client: redis.Redis, runs: Collection[str]) -> list[tuple[int, str]]:
    """Return for each stream of some runs the Unix time in ms of its newest entry, and its run."""
    keys = [key for key in scan_keys(client, "{*}:*", "stream") if _run_of(key) in runs]
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.xinfo_stream(key)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    return [
        (int(answer["last-generated-id"].partition(b"-")[0]), _run_of(key))
        for key, answer in zip(keys, answers, strict=True)
        if isinstance(answer, dict)  # a stream may be deleted meanwhile
    ]


def _run_of(key: str) -> str:
    return unquote(key[1:].partition("}:")[0])


def stream_keys(client: redis.Redis, names: Names) -> list[str]:
    """Return the keys of a run's streams: those that exist, and those of its contract."""
    system = registry.system_of_run(client, names)
    declared = {names.stream(*each.key) for each in system.streams} if system else set()
    existing = scan_keys(client, names.everything(), "stream")
    found = declared | {key for key in existing if holds_messages(names, key)}
    return sorted(found, key=lambda key: [*map(order, parse_stream_key(names, key))])


def holds_messages(names: Names, stream: str) -> bool:
    """Return whether a stream of the run is a room's: no log, no guest's, no dead letters."""
    _, *type_ = stream.removeprefix(names.prefix()).split(":")
    is_other = stream == names.dead() or stream.startswith(names.guest(""))
    return len(type_) <= 1 and type_ != ["log"] and not is_other


def parse_stream_key(names: Names, key: str) -> StreamKey:
    """Return the room and the TYPE of a stream. Rooms without TYPE have an empty one."""
    room, _, type_ = key.removeprefix(names.channel("")).rpartition(":")
    return (unquote(room), type_) if room else (unquote(type_), "")
