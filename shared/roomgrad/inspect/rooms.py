"""The rooms of a run: their senders and readers, rates, and what waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from roomgrad.inspect import snapshot
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.inspect.keys import StreamKey, stream_keys
from roomgrad.inspect.snapshot import RunSnapshot
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.rooms import System
from roomgrad.schema import Declaration

MOST_LETTERS = 10_000  # dead letters that are counted by room, the newest ones


@dataclass(frozen=True)
class Member:
    """A component that consumes the messages of a room."""

    name: str
    replicas: int
    waiting: int
    pending: int


@dataclass(frozen=True)
class RoomState:
    """One TYPE of a room."""

    room: str
    type: str
    senders: tuple[str, ...]
    """The components that declare to send it."""

    members: tuple[Member, ...]
    rate: float
    """Messages per second."""

    lag: int
    """Messages that its slowest member has not been given."""

    open: int
    """Messages that were delivered and are not committed."""

    dead: int
    length: int
    added: int
    key: str


def inspect(client: redis.Redis, names: Names, seconds: float) -> tuple[RoomState, ...]:
    """Return all rooms of a run, with their rates over some seconds."""
    keys = stream_keys(client, names)
    before = snapshot.take(client, names, keys)
    time.sleep(seconds)
    return compare(client, before, snapshot.take(client, names, keys))


def compare(client: redis.Redis, before: RunSnapshot, now: RunSnapshot) -> tuple[RoomState, ...]:
    """Return the rooms of a snapshot, with their rates since an earlier one."""
    sends = senders(registry.declared_in(client, now.names))
    rates = now.rates(before)
    letters = DeadLetters(client, now.names).newest_first() if now.dead_letters else iter(())
    dead = Counter(letter.stream_key for letter in islice(letters, MOST_LETTERS))
    return tuple(
        RoomState(
            room=stream.room,
            type=stream.type,
            senders=tuple(sends.get(stream.stream_key, ())),
            members=tuple(
                Member(group.name, now.replicas(group.name), group.waiting, group.pending)
                for group in stream.groups
            ),
            rate=round(rates.get(stream.stream_key, 0.0), 1),
            lag=max((group.waiting for group in stream.groups), default=0),
            open=sum(group.pending for group in stream.groups),
            dead=dead[stream.stream_key],
            length=stream.length,
            added=stream.added,
            key=stream.key,
        )
        for stream in now.streams
    )


def senders(declared: Mapping[str, Declaration]) -> dict[StreamKey, list[str]]:
    """Return the components that declare to send each TYPE to each room."""
    found: dict[StreamKey, list[str]] = {}
    for component, declaration in sorted(declared.items()):
        for reply in sorted({reply for each in declaration.handlers for reply in each.replies}):
            found.setdefault(reply, []).append(component)
    return found


def described_by_contract(system: System | None, room: str) -> list[dict[str, Any]]:
    """Return what a room carries according to the contract, for output as JSON."""
    streams = [each for each in system.streams if each.room.name == room] if system else []
    return [
        {
            "type": str(stream.type),
            "about": stream.about,
            "consumers": list(stream.consumers),
            "fields": {
                name: f"{getattr(schema, 'dtype', 'text')} {schema.describe()}"
                + (", optional" if schema.optional else "")
                for name, schema in stream.schema.items()
            },
        }
        for stream in streams
    ]
