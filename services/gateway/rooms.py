"""Who is where: the clients, the seats, and which messages there are in a room."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator

from roomgrad.errors import DecodeError
from roomgrad.names import is_client_group
from roomgrad.rooms import System

from .bodies import LIVE_ROOMS
from .connection import Connection
from .seats import Key, Owed, Seat
from .store import Store, parts

MOST_ROOMS = 10_000  # that are in no contract: each has a stream, for good
MOST_TYPES = 100  # of a room: each has a stream, and each seat in the room a group on it


class Rooms:
    """What the gateway knows of its rooms; all of it but the connections stands in Redis, too."""

    def __init__(self, store: Store, system: System | None) -> None:
        self.system = system
        self.connections: list[Connection] = []
        self.seats: list[Seat] = []
        self.touched: set[Key] = set()
        """Streams in which something has changed since they were last looked at."""
        self.changing = asyncio.Lock()
        """Held by whoever changes who is where."""
        self._store = store
        self._types: dict[str, set[str]] = defaultdict(set)
        self._declared: dict[str, set[str]] = defaultdict(set)
        for stream in system.streams if system else ():
            self._types[stream.room.name].add(stream.key[1])
            self._declared[stream.room.name].add(stream.key[1])

    def is_declared(self, room: str) -> bool:
        """Whether a room is in the contract."""
        return room in self._declared

    def known(self) -> list[str]:
        """The rooms of which some message is known."""
        return list(self._types)

    def keys_of(self, room: str) -> list[Key]:
        """The streams of a room, as far as they are known."""
        return [(room, type_) for type_ in sorted(self._types.get(room, ()))]

    def keys(self, seat: Seat) -> list[Key]:
        """The streams of the rooms in which a seat is."""
        return [key for room in seat.rooms for key in self.keys_of(room)]

    def seats_in(self, room: str) -> Iterator[Seat]:
        """The seats that are in a room."""
        return (seat for seat in self.seats if room in seat.rooms)

    def present(self, room: str) -> Iterator[Connection]:
        """The clients that are in a room."""
        return (each for each in self.connections if room in each.rooms)

    async def know(self, key: Key) -> None:
        """Makes sure that everybody in a room gets messages of this TYPE, before the first one.

        Raises DecodeError for a room or a TYPE too many.
        """
        room, type_ = key
        if type_ in self._types.get(room, ()) or room in LIVE_ROOMS:
            return
        if room not in self._types and len(self._types) >= MOST_ROOMS:
            raise DecodeError(f"room {room!r}: {MOST_ROOMS} rooms are in use, expected no more")
        if len(self._types.get(room, ())) >= MOST_TYPES:
            raise DecodeError(f"TYPE {type_!r}: room {room!r} has {MOST_TYPES}, expected no more")
        async with self.changing:
            for seat in self.seats_in(room):
                await self._store.open_group(key, seat.group, f"{seat.rooms[room] - 1}")
            self._types[room].add(type_)
            await self._keep_types(room)

    async def beginning(self, key: Key) -> str:
        """The entry after which somebody who is new in a room hears it: the newest, as a rule.

        Where the contract wants consumers and all of them were forgotten, a client stands in for
        them. Whoever it is begins with what nobody has answered, so that clients may start in any
        order.
        """
        if self.is_heard_by_contract(key) and all(
            map(is_client_group, await self._store.groups(key))
        ):
            return await self._store.heard_until(key)
        return "$"

    def is_heard_by_contract(self, key: Key) -> bool:
        """Whether the contract names somebody who hears this stream."""
        stream = self.system.find(*key) if self.system else None
        return stream is not None and bool(stream.consumers)

    def heard(self, answers: Iterable[Owed]) -> list[Owed]:
        """Of what is answered in streams of the contract, the newest of each."""
        newest: dict[Key, str] = {}
        for key, entry in answers:
            if self.is_heard_by_contract(key) and parts(entry) > parts(newest.get(key, "0-0")):
                newest[key] = entry
        return list(newest.items())

    async def end(self, seat: Seat) -> None:
        """Nothing waits for this seat any more."""
        if seat.task is not None:
            seat.task.cancel()
        self.seats.remove(seat)
        for key in self.keys(seat):
            if self.is_heard_by_contract(key):
                await self._store.keep_heard(key, seat.group)
            await self._store.close_group(key, seat.group)
        await self._store.drop_seat(seat)

    async def load(self) -> None:
        """The seats as they were left, also by a gateway that was killed."""
        self.seats, types = await self._store.seats()
        for room, found in types.items():
            self._types[room].update(found)
        now = await self._store.now_ms()
        for seat in self.seats:
            self.touched.update(self.keys(seat))
            if seat.left_ms is None:
                seat.left_ms = now
                await self._store.keep_seat(seat)

    async def restore(self) -> None:
        """After the server was emptied: the seats of those who are connected, as they were."""
        async with self.changing:
            for seat in self.seats:
                seat.empty()
                for key in self.keys(seat):
                    await self._store.open_group(key, seat.group, "0")
                await self._store.keep_seat(seat)
                seat.look(self.keys(seat))
            for room in list(self._types):
                await self._keep_types(room)

    async def _keep_types(self, room: str) -> None:
        if free := self._types[room] - self._declared.get(room, set()):
            await self._store.keep_types(room, free)
