"""The gateway's view of its rooms: connections, subscriptions, and the TYPEs in each room."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator

from roomgrad.errors import DecodeError
from roomgrad.names import is_client_group
from roomgrad.rooms import System

from .codec import LIVE_ROOMS
from .connection import Connection
from .store import Store, parts
from .subscriptions import EntryRef, StreamKey, Subscription

MAX_ROOMS = 10_000  # outside the contract: each has streams, which are never deleted
MAX_TYPES = 100  # of a room: each is a stream, and each subscription has a group on it


class Rooms:
    """What the gateway knows of its rooms; all but the connections is stored in Redis, too.

    changed: streams with new entries since retention looked at them. lock: held while a client
    joins or leaves.
    """

    def __init__(self, store: Store, system: System | None) -> None:
        self.system = system
        self.connections: list[Connection] = []
        self.subscriptions: list[Subscription] = []
        self.changed: set[StreamKey] = set()
        self.lock = asyncio.Lock()
        self._store = store
        self._types: dict[str, set[str]] = defaultdict(set)
        self._declared: dict[str, set[str]] = defaultdict(set)
        for stream in system.streams if system else ():
            self._types[stream.room.name].add(stream.key[1])
            self._declared[stream.room.name].add(stream.key[1])

    def is_declared(self, room: str) -> bool:
        """Whether the contract has this room."""
        return room in self._declared

    def known(self) -> list[str]:
        """Return the rooms with known streams."""
        return list(self._types)

    def streams_of(self, room: str) -> list[StreamKey]:
        """Return the known streams of a room."""
        return [(room, type_) for type_ in sorted(self._types.get(room, ()))]

    def streams(self, subscription: Subscription) -> list[StreamKey]:
        """Return the known streams of all rooms of a subscription."""
        return [key for room in subscription.rooms for key in self.streams_of(room)]

    def subscriptions_in(self, room: str) -> Iterator[Subscription]:
        """Yield the subscriptions that have joined a room."""
        return (each for each in self.subscriptions if room in each.rooms)

    def present(self, room: str) -> Iterator[Connection]:
        """Yield the clients that are in a room."""
        return (each for each in self.connections if room in each.rooms)

    async def ensure(self, key: StreamKey) -> None:
        """Create the groups of all subscriptions in a room, before its first message of a TYPE.

        Raises DecodeError if there are too many rooms or TYPEs.
        """
        room, type_ = key
        if type_ in self._types.get(room, ()) or room in LIVE_ROOMS:
            return
        if room not in self._types and len(self._types) >= MAX_ROOMS:
            raise DecodeError(f"room {room!r}: {MAX_ROOMS} rooms are in use, expected no more")
        if len(self._types.get(room, ())) >= MAX_TYPES:
            raise DecodeError(f"TYPE {type_!r}: room {room!r} has {MAX_TYPES}, expected no more")
        async with self.lock:
            for each in self.subscriptions_in(room):
                await self._store.create_group(key, each.group, f"{each.rooms[room] - 1}")
            self._types[room].add(type_)
            await self._save_types(room)

    async def start_after(self, key: StreamKey) -> str:
        """Return the entry after which a new subscription reads: usually the newest one.

        If all consumers that the contract names were forgotten, a client takes their place. It
        starts with the oldest unanswered entry, so that clients may start in any order.
        """
        if self.is_consumed(key) and all(map(is_client_group, await self._store.groups(key))):
            return await self._store.answered_until(key)
        return "$"

    def is_consumed(self, key: StreamKey) -> bool:
        """Whether the contract names a consumer of this stream."""
        stream = self.system.find(*key) if self.system else None
        return stream is not None and bool(stream.consumers)

    def newest_answered(self, answered: Iterable[EntryRef]) -> list[EntryRef]:
        """Return the newest entry of each stream of the contract that is answered."""
        newest: dict[StreamKey, str] = {}
        for key, entry in answered:
            if self.is_consumed(key) and parts(entry) > parts(newest.get(key, "0-0")):
                newest[key] = entry
        return list(newest.items())

    async def end(self, subscription: Subscription) -> None:
        """Delete a subscription and its groups."""
        if subscription.task is not None:
            subscription.task.cancel()
        self.subscriptions.remove(subscription)
        for key in self.streams(subscription):
            if self.is_consumed(key):
                await self._store.save_answered(key, subscription.group)
            await self._store.destroy_group(key, subscription.group)
        await self._store.delete_subscription(subscription)

    async def load(self) -> None:
        """Read the subscriptions as the last gateway left them, even if it was killed."""
        self.subscriptions, types = await self._store.subscriptions()
        for room, found in types.items():
            self._types[room].update(found)
        now = await self._store.now_ms()
        for each in self.subscriptions:
            self.changed.update(self.streams(each))
            if each.left_ms is None:
                each.left_ms = now
                await self._store.save_subscription(each)

    async def restore(self) -> None:
        """Store the subscriptions again after the server was emptied."""
        async with self.lock:
            for each in self.subscriptions:
                each.clear()
                for key in self.streams(each):
                    await self._store.create_group(key, each.group, "0")
                await self._store.save_subscription(each)
                each.read_soon(self.streams(each))
            for room in list(self._types):
                await self._save_types(room)

    async def _save_types(self, room: str) -> None:
        if undeclared := self._types[room] - self._declared.get(room, set()):
            await self._store.save_types(room, undeclared)
