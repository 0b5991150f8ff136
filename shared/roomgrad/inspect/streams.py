"""The streams of a run and their groups at one moment, in few round trips however many there are.

Only plain reads: whoever may read may look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import redis

from roomgrad.inspect.keys import pattern, scanned
from roomgrad.names import GATEWAY, Names, is_client_group
from roomgrad.redis import registry


@dataclass(frozen=True)
class Group:
    """A consumer group on one stream."""

    name: str
    key: str
    """Of its stream."""

    waiting: int
    """Entries that were not delivered yet; at least so many, where the server has lost count."""

    pending: int
    """Entries that were delivered and not committed."""

    @property
    def behind(self) -> int:
        """Entries that are not committed yet."""
        return self.waiting + self.pending


@dataclass(frozen=True)
class Flow:
    """One stream: a room and a TYPE."""

    room: str
    type: str
    key: str
    length: int = 0
    added: int = 0
    """How many entries it ever got."""

    newest: str = "0-0"
    bytes: int = 0
    """Memory that it takes on the server; 0 where nobody asked."""

    groups: tuple[Group, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        return self.room, self.type

    def behind(self, group: str) -> int:
        """How many entries a group has not committed yet."""
        return sum(each.behind for each in self.groups if each.name == group)


@dataclass(frozen=True)
class Flows:
    """All streams of a run at one moment."""

    now_us: int
    """Unix time of the server."""

    flows: tuple[Flow, ...]
    living: Mapping[str, int]
    """Living replicas of each component."""

    dead: int = 0
    """Dead letters."""

    open: Mapping[str, int] = field(default_factory=dict)
    """Records in the memory of each component."""

    def alive(self, group: str) -> int:
        """Living replicas of a group; a client of the gateway is served while the gateway lives."""
        return self.living.get(GATEWAY if is_client_group(group) else group, 0)

    def rates(self, before: Flows) -> dict[tuple[str, str], float]:
        """Messages a second of each room and TYPE since an earlier look."""
        seconds = (self.now_us - before.now_us) / 1e6
        added = {each.place: each.added for each in before.flows}
        return {
            each.place: max(0, each.added - added.get(each.place, each.added)) / seconds
            for each in self.flows
            if seconds > 0
        }


def keys_of(client: redis.Redis, names: Names) -> list[str]:
    """The streams of a run: those that are there, and those of its contract that will be."""
    system = registry.system_of_run(client, names)
    declared = {names.stream(*each.key) for each in system.streams} if system else set()
    there = scanned(client, names.everything(), "stream")
    logs = {key for key in there if key.endswith(":log")}
    return sorted((declared | set(there)) - logs - {names.dead()})


def place(names: Names, key: str) -> tuple[str, str]:
    """The room and TYPE of a stream; rooms without TYPE, like `errors`, have an empty one."""
    room, _, type_ = key.removeprefix(names.channel("")).rpartition(":")
    return (unquote(room), type_) if room else (unquote(type_), "")


def look(
    client: redis.Redis,
    names: Names,
    keys: Iterable[str] | None = None,
    memories: Iterable[str] | None = None,
) -> Flows:
    """Looks at all streams of a run, or at those of some keys; and how much components remember."""
    keys = keys_of(client, names) if keys is None else list(keys)
    components = sorted(registry.components_of(client, names) if memories is None else memories)
    with client.pipeline(transaction=False) as together:
        together.time()
        together.xlen(names.dead())
        for component in components:
            together.hlen(names.memory(component))
        for key in keys:
            together.xinfo_stream(key)
            together.xinfo_groups(key)
        answers = together.execute(raise_on_error=False)
    _raise_refused(answers)
    (seconds, micros), dead = answers[0], answers[1]
    counts, streams = answers[2 : 2 + len(components)], answers[2 + len(components) :]
    now_us = int(seconds) * 1_000_000 + int(micros)
    flows = [flow(names, k, *streams[2 * i : 2 * i + 2]) for i, k in enumerate(keys)]
    return Flows(
        now_us=now_us,
        flows=tuple(flows),
        living=living(client, names),
        dead=dead if isinstance(dead, int) else 0,
        open={c: n for c, n in zip(components, counts, strict=True) if isinstance(n, int)},
    )


def _raise_refused(answers: list[Any]) -> None:
    """A stream that is not there yet is no error; a permission that is missing is one."""
    for answer in answers:
        if isinstance(answer, redis.exceptions.NoPermissionError):
            raise answer


def living(client: redis.Redis, names: Names) -> dict[str, int]:
    """How many replicas of each component have a heartbeat."""
    prefix = names.alive("")
    found: dict[str, int] = {}
    for key in scanned(client, pattern(prefix) + "*"):
        component = key.removeprefix(prefix).partition("~")[0]
        found[component] = found.get(component, 0) + 1
    return found


def flow(names: Names, key: str, info: Any, groups: Any, size: Any = 0) -> Flow:
    """A stream, by the answers of XINFO STREAM, XINFO GROUPS, MEMORY USAGE; any may be an error."""
    room, type_ = place(names, key)
    if not isinstance(info, dict):  # it is not there yet, or something else
        return Flow(room, type_, key)
    newest = info["last-generated-id"]
    found = groups if isinstance(groups, list) else []
    return Flow(
        room,
        type_,
        key,
        length=int(info["length"]),
        added=int(info["entries-added"]),
        newest=newest.decode(),
        bytes=size if isinstance(size, int) else 0,
        groups=tuple(_group(key, each, newest) for each in found),
    )


def _group(key: str, found: Mapping[str, Any], newest: bytes) -> Group:
    lag = found.get("lag")
    waits = int(found["last-delivered-id"] != newest) if lag is None else int(lag)
    return Group(found["name"].decode(errors="replace"), key, waits, int(found["pending"]))
