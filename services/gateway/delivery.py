"""From the streams to the clients: one task for each seat, so that none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import redis
import structlog

from roomgrad.errors import MessageError

from . import bodies
from .bodies import Entry
from .bounds import Bounds
from .connection import Connection
from .rooms import Rooms
from .seats import Seat
from .settings import GatewaySettings
from .store import Read, Store

log = structlog.get_logger("roomgrad")

READ_COUNT = 16  # entries of a stream that are read at a time
PAUSE_S = 0.5  # after an error that nobody expected


class Delivery:
    """Reads what is new for a seat as fast as its clients take it, and no faster."""

    def __init__(
        self, settings: GatewaySettings, store: Store, rooms: Rooms, bounds: Bounds
    ) -> None:
        self._settings = settings
        self._store = store
        self._rooms = rooms
        self._bounds = bounds

    def serve(self, seat: Seat) -> None:
        """Starts the task of a seat, unless it runs."""
        if seat.task is None or seat.task.done():
            seat.losses = self._store.link.losses
            seat.task = asyncio.create_task(self._run(seat), name=seat.group)

    async def _run(self, seat: Seat) -> None:
        while True:
            try:
                await seat.news.wait()
                seat.news.clear()
                while reads := await self._next(seat):
                    for read in reads:
                        await self._hand_over(seat, read)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    log.error("a seat cannot be read", seat=seat.group, reason=str(error))
                await asyncio.sleep(PAUSE_S)
            except Exception as error:
                log.error("a seat goes on after an error", seat=seat.group, exc_info=error)
                await asyncio.sleep(PAUSE_S)

    async def _next(self, seat: Seat) -> Sequence[Read]:
        if seat.losses != self._store.link.losses:
            seat.losses = self._store.link.losses
            await self._find_again(seat)
        if seat.again:
            again = list(seat.again)
            seat.again.clear()
            return again
        keys = seat.take_fresh()
        done, seat.done = seat.done, []
        await self._store.acknowledge(seat.group, done)
        found = await self._store.read(seat.group, keys, READ_COUNT)
        for key in keys:
            if sum(at == key for at, _, _ in found) >= READ_COUNT:
                seat.fresh.add(key)
        if found or seat.losses == self._store.link.losses:
            return found
        return await self._next(seat)

    async def _find_again(self, seat: Seat) -> None:
        """What was read just when the server was lost may not have arrived here."""
        present = [key for key in self._rooms.keys(seat) if seat.in_room(key[0])]
        for read in await self._store.own(seat.group, present):
            if not seat.knows(read[:2]):
                seat.again.append(read)
        seat.fresh.update(present)

    async def _hand_over(self, seat: Seat, read: Read) -> None:
        key, at, fields = read
        owed = (key, at)
        try:
            entry = bodies.entry_of(*key, at, fields)
        except MessageError as error:
            await self._bounds.bury(seat, read, str(error))
            return
        others = entry.only_for not in ("", seat.group)
        if others or seat.is_own(entry) or self._has_it_by_room(seat, entry):
            seat.done.append(owed)
            return
        to = await self._receiver(seat, key[0])
        if to is None:
            return  # it stays with the seat, for when somebody is in that room again
        if to.write(entry.body):
            seat.sent(key, entry, to, self._settings.resend)
        else:
            await self._bounds.bury(seat, read, "it cannot be written for this client")

    def _has_it_by_room(self, seat: Seat, entry: Entry) -> bool:
        """Whether a direct message was said in a room, too, in which the client heard it."""
        room = entry.body.get("TO_ROOM")
        return entry.room.startswith("@") and isinstance(room, str) and bool(seat.in_room(room))

    async def _receiver(self, seat: Seat, room: str) -> Connection | None:
        """Who gets it: the one with the least to do, once somebody takes something."""
        while present := [each for each in seat.in_room(room) if not each.ended]:
            ready = [each for each in present if not each.is_full]
            if ready:
                return min(ready, key=seat.load) if len(ready) > 1 else ready[0]
            waits = [asyncio.create_task(each.drained()) for each in present]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return None
