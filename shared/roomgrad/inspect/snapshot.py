"""A snapshot of a run: its streams, groups, replicas, open roots and dead letters at one moment.

It takes a few round trips, however many streams there are, and needs read access alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from roomgrad.inspect.keys import StreamKey, entry_id, parse_stream_key
from roomgrad.inspect.keys import stream_keys as find_stream_keys
from roomgrad.names import GATEWAY, Names, is_client_group
from roomgrad.redis import heartbeats, registry
from roomgrad.redis.heartbeats import Heartbeat
from roomgrad.redis.streams import START

OVERDUE_S = 10.0  # a component that is alive sends a delayed message sooner than so late


@dataclass(frozen=True)
class ConsumerGroup:
    """A consumer group of one stream."""

    name: str
    key: str
    """The Redis key of its stream."""

    waiting: int
    """Entries that were not delivered yet; a lower bound if the server has lost count."""

    pending: int
    """Entries that were delivered and not committed."""

    last_delivered: str = "0-0"
    """The ID of the newest entry that was delivered."""

    @property
    def behind(self) -> int:
        """The number of entries that are not committed yet."""
        return self.waiting + self.pending


@dataclass(frozen=True)
class StreamState:
    """One stream: a room and a TYPE."""

    room: str
    type: str
    key: str
    """Its Redis key."""

    length: int = 0
    added: int = 0
    """The number of entries that were ever added."""

    bytes: int = 0
    """The memory that it takes on the server; 0 unless the snapshot is detailed."""

    newest_ms: int = 0
    """When its newest entry was added, Unix time of the server."""

    groups: tuple[ConsumerGroup, ...] = ()

    @property
    def stream_key(self) -> StreamKey:
        """Its room and TYPE."""
        return self.room, self.type

    def behind(self, group: str) -> int:
        """Return the number of entries that a group has not committed yet."""
        return sum(each.behind for each in self.groups if each.name == group)


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment."""

    names: Names
    now_us: int
    """Unix time of the server, in microseconds."""

    streams: tuple[StreamState, ...]
    heartbeats: Mapping[str, Heartbeat | None]
    """By consumer; None for a foreign client's heartbeat that lacks host, process or turn."""

    dead_letters: int = 0
    open: Mapping[str, int] = field(default_factory=dict)
    """The number of records in the memory of each component."""

    delayed: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Delayed messages of each component, and how many are overdue; if detailed."""

    wrong_types: tuple[str, ...] = ()
    """Keys that hold another Redis type than they should."""

    @property
    def groups(self) -> Iterator[ConsumerGroup]:
        """All groups of all streams."""
        return (group for stream in self.streams for group in stream.groups)

    def replicas(self, group: str) -> int:
        """Return how many live replicas read for a group.

        The gateway reads for the groups of its clients.
        """
        component = GATEWAY if is_client_group(group) else group
        return sum(consumer.partition("~")[0] == component for consumer in self.heartbeats)

    def rates(self, before: RunSnapshot) -> dict[StreamKey, float]:
        """Return the messages per second of each stream since an earlier snapshot."""
        seconds = (self.now_us - before.now_us) / 1e6
        added = {each.key: each.added for each in before.streams}
        return {
            each.stream_key: max(0, each.added - added.get(each.key, each.added)) / seconds
            for each in self.streams
            if seconds > 0
        }


def take(
    client: redis.Redis,
    names: Names,
    keys: Iterable[str] | None = None,
    components: Iterable[str] | None = None,
    *,
    detailed: bool = False,
) -> RunSnapshot:
    """Take a snapshot of a run.

    keys: of the streams; all if None. components: whose memory is counted; all if None.
    detailed: also read memory usage and delayed messages, all in one transaction.

    Raises NoPermissionError if the user lacks a right; ResponseError too, if detailed.
    """
    keys = find_stream_keys(client, names) if keys is None else list(keys)
    known = registry.components_of(client, names) if components is None else components
    query = _Query(names, keys, sorted(known), detailed)
    return query.run(client)


@dataclass(frozen=True)
class _Query:
    """The commands of a snapshot in one pipeline, and their answers as one object."""

    names: Names
    keys: list[str]
    components: list[str]
    detailed: bool

    def run(self, client: redis.Redis) -> RunSnapshot:
        alive = heartbeats.read(client, self.names)
        time: Any = client.time()
        now_us = int(time[0]) * 1_000_000 + int(time[1])
        with client.pipeline(transaction=self.detailed) as pipeline:
            asked = self._ask(pipeline, now_us)
            answers = pipeline.execute(raise_on_error=False)
        found = dict(zip(asked, answers, strict=True))
        for answer in answers:
            if isinstance(answer, redis.exceptions.NoPermissionError):
                raise answer
        return RunSnapshot(
            self.names,
            now_us,
            streams=tuple(_stream_state(self.names, key, found) for key in self.keys),
            heartbeats=alive,
            dead_letters=_number(found["dead", self.names.dead()]),
            open={c: _number(found["open", self.names.memory(c)]) for c in self.components},
            delayed=self._delayed(found),
            wrong_types=tuple(sorted({key for (_, key), a in found.items() if _is_wrongtype(a)})),
        )

    def _ask(self, pipeline: Any, now_us: int) -> list[tuple[str, str]]:
        """Queue the commands; return for each what it asks and of which key."""
        asked = [("dead", self.names.dead())]
        pipeline.xlen(self.names.dead())
        for component in self.components:
            memory, delayed = self.names.memory(component), self.names.later(component)
            asked.append(("open", memory))
            pipeline.hlen(memory)
            if self.detailed:
                asked += [("delayed", delayed), ("overdue", delayed)]
                pipeline.zcard(delayed)
                pipeline.zcount(delayed, "-inf", now_us // 1000 - int(OVERDUE_S * 1000))
        for key in self.keys:
            asked += [("stream", key), ("groups", key)]
            pipeline.xinfo_stream(key)
            pipeline.xinfo_groups(key)
            if self.detailed:
                asked.append(("bytes", key))
                pipeline.memory_usage(key, samples=5)
        return asked

    def _delayed(self, found: Mapping[tuple[str, str], Any]) -> dict[str, tuple[int, int]]:
        keys = {component: self.names.later(component) for component in self.components}
        return {
            component: (_number(found["delayed", key]), _number(found["overdue", key]))
            for component, key in keys.items()
            if self.detailed
        }


def _number(answer: Any) -> int:
    return answer if isinstance(answer, int) else 0


def _is_wrongtype(answer: Any) -> bool:
    return isinstance(answer, Exception) and str(answer).startswith("WRONGTYPE")


def _stream_state(names: Names, key: str, found: Mapping[tuple[str, str], Any]) -> StreamState:
    room, type_ = parse_stream_key(names, key)
    info, groups = found["stream", key], found["groups", key]
    if not isinstance(info, dict):  # it does not exist yet, or is no stream
        return StreamState(room, type_, key)
    return StreamState(
        room,
        type_,
        key,
        length=int(info["length"]),
        added=int(info["entries-added"]),
        bytes=_number(found.get(("bytes", key))),
        newest_ms=entry_id(info["last-generated-id"].decode())[0],
        groups=tuple(
            _group(key, each, info) for each in (groups if isinstance(groups, list) else ())
        ),
    )


def _group(key: str, found: Mapping[str, Any], stream: Mapping[str, Any]) -> ConsumerGroup:
    delivered, lag = found["last-delivered-id"].decode(), found.get("lag")
    newest = stream["last-entry"][0].decode() if stream["last-entry"] else START
    # The server counts trimmed and deleted entries as lag, too.
    some = int(entry_id(delivered) < entry_id(newest))
    return ConsumerGroup(
        found["name"].decode(errors="replace"),
        key,
        waiting=some if lag is None else some * min(int(lag), int(stream["length"])),
        pending=int(found["pending"]),
        last_delivered=delivered,
    )
