"""Rooms: who speaks and listens in them, how fast, and what waits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from roomgrad.inspect import streams
from roomgrad.inspect.dead_letters import Letters
from roomgrad.inspect.streams import Flow, Flows
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.rooms import System
from roomgrad.schema import Declaration

LETTERS = 10_000  # the newest, of which the rooms are counted


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
    """The components that declare to send it, as far as they are known."""

    members: tuple[Member, ...]
    rate: float
    """Messages a second."""

    lag: int
    """Messages that its slowest member has not been given."""

    open: int
    """Messages in somebody's hands, not committed yet."""

    dead: int
    length: int
    added: int
    key: str


def look(client: redis.Redis, names: Names, seconds: float) -> tuple[RoomState, ...]:
    """All rooms of a run, with rates over so many seconds."""
    keys = streams.keys_of(client, names)
    before = streams.look(client, names, keys)
    time.sleep(seconds)
    now = streams.look(client, names, keys)
    return states(client, names, before, now)


def states(client: redis.Redis, names: Names, before: Flows, now: Flows) -> tuple[RoomState, ...]:
    """The rooms of two looks; the contract says which of them there could be."""
    sends = senders(registry.declared_in(client, names))
    letters = islice(Letters(client, names).newest_first(), LETTERS) if now.dead else ()
    dead = Counter(letter.place for letter in letters)
    rates = now.rates(before)
    return tuple(_state(flow, now, rates, sends, dead) for flow in now.flows)


def senders(declared: Mapping[str, Declaration]) -> dict[tuple[str, str], list[str]]:
    """Who declares to send a TYPE to a room."""
    found: dict[tuple[str, str], list[str]] = {}
    for component, said in sorted(declared.items()):
        for reply in sorted({reply for each in said.handlers for reply in each.replies}):
            found.setdefault(reply, []).append(component)
    return found


def _state(
    flow: Flow,
    now: Flows,
    rates: Mapping[tuple[str, str], float],
    sends: Mapping[tuple[str, str], list[str]],
    dead: Mapping[tuple[str, str], int],
) -> RoomState:
    members = [
        Member(each.name, now.alive(each.name), each.waiting, each.pending) for each in flow.groups
    ]
    return RoomState(
        room=flow.room,
        type=flow.type,
        senders=tuple(sends.get(flow.place, ())),
        members=tuple(members),
        rate=round(rates.get(flow.place, 0.0), 1),
        lag=max((each.waiting for each in flow.groups), default=0),
        open=sum(each.pending for each in flow.groups),
        dead=dead.get(flow.place, 0),
        length=flow.length,
        added=flow.added,
        key=flow.key,
    )


def of_contract(system: System | None, room: str) -> list[dict[str, Any]]:
    """What a room carries, by the contract."""
    found = [each for each in system.streams if each.room.name == room] if system else []
    return [
        {
            "type": str(each.type),
            "about": each.about,
            "consumers": list(each.consumers),
            "fields": {
                name: f"{getattr(schema, 'dtype', 'text')} {schema.describe()}"
                + (", optional" if schema.optional else "")
                for name, schema in each.schema.items()
            },
        }
        for each in found
    ]
