"""Who is where: clients register, join rooms, leave them, and go."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import structlog

from roomgrad.errors import DecodeError, SettingsError
from roomgrad.names import Names

from . import bodies
from .bodies import LIVE_ROOMS
from .connection import Connection
from .delivery import Delivery
from .ears import Ears
from .rooms import Rooms
from .seats import Seat, written_ms
from .settings import GatewaySettings
from .store import Read, Store

log = structlog.get_logger("roomgrad")

MOST_SEATS = 10_000
MOST_JOINED = 1000  # rooms of a seat


class Members:
    """Lets clients in and out, of the gateway and of rooms."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Store,
        rooms: Rooms,
        ears: Ears,
        delivery: Delivery,
    ) -> None:
        self._settings = settings
        self._store = store
        self._rooms = rooms
        self._ears = ears
        self._delivery = delivery
        self._token = token_in(settings.token_file)

    async def register(self, connection: Connection, body: dict[str, Any]) -> None:
        """Gives a client its name and its seat; one that has them keeps its rooms.

        Raises DecodeError, and WrongToken for one that may not come in.
        """
        raw = bodies.text_of(body, "NAME", bodies.LONGEST_NAME + len(self._token) + 1)
        name = self._proven(raw, str(body.pop("TOKEN", "")))
        if not 0 < len(name) <= bodies.LONGEST_NAME:
            raise DecodeError(f"NAME {name!r}: expected 1 to {bodies.LONGEST_NAME} characters")
        body["NAME"] = name
        if name == connection.name:
            return
        rooms = [room for room in sorted(connection.rooms) if not room.startswith("@")]
        await self.leave(connection)
        async with self._rooms.changing:
            seat = await self._seat(name)
            seat.connections.append(connection)
            if seat.left_ms is not None or not seat.taken_ms:
                seat.taken_ms, seat.left_ms, seat.letters = await self._store.now_ms(), None, 0
                await self._store.keep_seat(seat)
            connection.name, connection.raw_name, connection.seat = name, raw, seat
            self._rooms.connections.append(connection)
            self._delivery.serve(seat)
        log.info("a client is here", client=str(connection), seat=seat.group)
        for room in (Names.inbox(name), *rooms):
            await self.join(connection, room)

    def _proven(self, raw: str, token: str) -> str:
        """The name, once the client has shown the token that is asked for. Raises DecodeError."""
        if not self._token:
            return raw
        name, _, behind = raw.rpartition(":")
        if secrets.compare_digest(token.encode(), self._token.encode()):
            return raw
        if secrets.compare_digest(behind.encode(), self._token.encode()):
            return name
        raise WrongToken(
            "the token is missing or wrong: expected it as TOKEN of REGISTER, or behind the name, "
            "like trainer:TOKEN"
        )

    async def _seat(self, name: str) -> Seat:
        """Where a client of this name sits down: the seat that is vacant, or a new one."""
        of_name = [seat for seat in self._rooms.seats if seat.name == name]
        if self._settings.share and of_name:
            return of_name[0]
        vacant = [seat for seat in of_name if seat.vacant]
        for seat in vacant[1:]:  # of a gateway that was killed: they hold the same
            await self._rooms.end(seat)
        if vacant:
            return vacant[0]
        if len(self._rooms.seats) >= MOST_SEATS:
            raise DecodeError(f"{name!r}: {MOST_SEATS} names are known already, expected no more")
        taken = {seat.number for seat in of_name}
        seat = Seat(name, next(n for n in range(1, len(taken) + 2) if n not in taken))
        self._rooms.seats.append(seat)
        return seat

    async def join(self, connection: Connection, room: str) -> None:
        """Lets a client into a room; what has waited for its seat there comes first.

        Raises DecodeError for a room too many.
        """
        seat = connection.seat
        assert seat is not None
        if room not in seat.rooms and len(seat.rooms) >= MOST_JOINED:
            raise DecodeError(
                f"ROOM {room!r}: {seat.name} is in {MOST_JOINED} rooms, expected no more: leave one"
            )
        await self._ears.admit(room)
        if room in LIVE_ROOMS:
            connection.rooms.add(room)
            await self._ears.listen(room)
            return
        again: list[Read] = []
        async with self._rooms.changing:
            if room not in seat.rooms:
                for key in self._rooms.keys_of(room):
                    await self._store.open_group(key, seat.group, await self._rooms.beginning(key))
                seat.rooms[room] = await self._store.now_ms()
                await self._store.keep_seat(seat)
            elif not seat.in_room(room):
                again = await self._take_up(seat, room)
            await self._ears.listen(room)
            # Together: what is to be sent again is put aside while nobody is in the room.
            connection.rooms.add(room)
            seat.again.extend(again)
        seat.look(self._rooms.keys_of(room))

    async def _take_up(self, seat: Seat, room: str) -> list[Read]:
        """What was given to the seat in this room and not answered, to be sent again."""
        again: list[Read] = []
        for key in self._rooms.keys_of(room):
            await self._store.open_group(key, seat.group, f"{seat.rooms[room] - 1}")
            pending = await self._store.pending(seat.group, key, self._settings.wait_count)
            left = [entry for entry in pending if not seat.knows((key, entry))]
            if self._settings.resend:
                again += await self._store.claim(seat.group, key, left)
            else:
                await self._store.acknowledge(seat.group, [(key, entry) for entry in left])
        return again

    async def leave_room(self, connection: Connection, room: str) -> None:
        """Lets a client out of a room; nothing in it waits for it any more."""
        seat = connection.seat
        assert seat is not None
        async with self._rooms.changing:
            connection.rooms.discard(room)
            if room not in seat.rooms or seat.in_room(room):
                return
            for key in self._rooms.keys_of(room):
                await self._store.close_group(key, seat.group)
            del seat.rooms[room]
            await self._store.keep_seat(seat)

    async def leave(self, connection: Connection) -> None:
        """A client is gone; the seat of the last one of its name is kept."""
        seat = connection.seat
        if seat is None:
            return
        self._rooms.connections.remove(connection)
        async with self._rooms.changing:
            connection.seat = None
            seat.connections.remove(connection)
            if not seat.vacant:
                await self._hand_on(seat, connection)
            elif twins := [s for s in self._rooms.seats if s.name == seat.name and not s.vacant]:
                await self._inherit(max(twins, key=lambda each: each.taken_ms), seat, connection)
                await self._rooms.end(seat)
            else:
                if seat.task is not None:
                    seat.task.cancel()
                await self._store.acknowledge(seat.group, seat.done)
                seat.done.clear()
                seat.empty()
                seat.left_ms = await self._store.now_ms()
                await self._store.keep_seat(seat)
        log.info("a client left", client=str(connection), reason=connection.ended or "it closed")
        connection.name = ""
        connection.rooms.clear()

    async def _inherit(self, heir: Seat, seat: Seat, gone: Connection) -> None:
        """What a client left behind before the newest of its name came, which has not had it.

        A machine that is gone without a farewell is noticed late: its client may be back by then.
        """
        if not self._settings.resend:
            return
        for key in self._rooms.keys(seat):
            before = f"({heir.taken_ms}-0"
            owed = [e for k, e in seat.owed_to(gone) if k == key and written_ms(e) < heir.taken_ms]
            left = await self._store.claim(seat.group, key, owed)
            left += await self._store.unread(seat.group, key, before)
            heir.again.extend(read for read in left if heir.in_room(key[0]))
        heir.news.set()

    async def _hand_on(self, seat: Seat, gone: Connection) -> None:
        """What one of several clients had not answered goes to the others."""
        owed = seat.owed_to(gone)
        seat.settle(owed)
        for key in {key for key, _ in owed}:
            entries = [entry for at, entry in owed if at == key]
            seat.again.extend(await self._store.claim(seat.group, key, entries))
        seat.news.set()


class WrongToken(DecodeError):
    """Raised for a client that may not come in."""


def token_in(path: str) -> str:
    """The token in a file; nothing without one. Raises SettingsError."""
    if not path:
        return ""
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(
            f"the file of the token {path} cannot be read: {error.strerror}"
        ) from error
    if len(token) < 16 or not token.isprintable() or " " in token:
        raise SettingsError(
            f"the token in {path} has {len(token)} characters: expected at least 16 letters, "
            "digits and signs"
        )
    return token
