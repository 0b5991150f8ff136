"""Who is connected, who is in which room, and what becomes of what they say."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog

from roomgrad.errors import DecodeError, MessageError, SettingsError
from roomgrad.messages import Message
from roomgrad.names import ERRORS, GATEWAY, Names
from roomgrad.rooms import Room, Stream
from services.gateway import bodies
from services.gateway.backlog import Backlog
from services.gateway.bodies import LIVE_ROOMS
from services.gateway.connection import Connection
from services.gateway.delivery import Delivery
from services.gateway.ears import Ears
from services.gateway.rooms import Rooms
from services.gateway.seats import Seat
from services.gateway.settings import GatewaySettings
from services.gateway.store import Read, Store

log = structlog.get_logger("roomgrad")

COMMANDS = "_command"  # the room of the original in which clients hear of each other
MOST_SEATS = 10_000
TEXT_KEPT = 200  # characters of a refused message that stand in room `errors`


class Hub:
    """Lets clients in and out, and brings what they say into the run."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Store,
        rooms: Rooms,
        ears: Ears,
        delivery: Delivery,
    ) -> None:
        self.rooms = rooms
        self._settings = settings
        self._store = store
        self._ears = ears
        self._delivery = delivery
        self._backlog = Backlog(store, rooms)
        self._token = token_in(settings.token_file)

    # what a client says

    async def take(self, connection: Connection, body: dict[str, Any]) -> bool:
        """Does what a body says; False for a farewell. Raises MessageError."""
        type_ = bodies.type_of(body)
        if type_ == "COMMAND/DISCONNECT":
            return False
        if type_ == "COMMAND/REGISTER":
            await self._register(connection, body)
        elif not connection.name:
            raise DecodeError(
                f"{type_} of a client without a name: expected COMMAND/REGISTER first"
            )
        elif type_ == "COMMAND/JOINROOM":
            await self.join(connection, _room_in(body, "ROOM"))
        elif type_ == "COMMAND/LEAVEROOM":
            await self.leave_room(connection, bodies.text_of(body, "ROOM"))
        else:
            await self._send(connection, body, type_)
            return True
        self._tell_others(connection, body)
        return True

    def _tell_others(self, connection: Connection, body: dict[str, Any]) -> None:
        """Commands reach who is in the room of the commands, and wait for nobody."""
        if body.get("TO_ROOM") == COMMANDS:
            bodies.completed(body, connection.name)
            for other in self.rooms.present(COMMANDS):
                if other is not connection:
                    other.write_live(body)

    async def _send(self, connection: Connection, body: dict[str, Any], type_: str) -> None:
        if body.get("SENT_BY") == connection.raw_name:
            body["SENT_BY"] = connection.name  # without the token
        bodies.completed(body, connection.name)
        sends = [message async for message in self._addressed(connection, body, type_)]
        seat = connection.seat
        assert seat is not None
        root = str(body["ROOT_ID"])
        if seat.opens(root):
            for _, stream, _ in sends:
                await self._backlog.wait(stream.key)
            seat.opened(root, str(body["ID"]), str(body.get("TO_ROOM", "")))
        answers = seat.answered(root)
        await self._store.send(sends, answers, seat.group)
        seat.settle(answers)
        for _, stream, _ in sends:
            self._backlog.count(stream.key)

    async def _addressed(
        self, connection: Connection, body: dict[str, Any], type_: str
    ) -> AsyncIterator[tuple[Message, Stream, dict[str, str]]]:
        """The message for its room, and for whom it names. Raises MessageError."""
        client = {"client": f"{connection.id} {connection.name}"}
        room, to = body.get("TO_ROOM"), body.get("TO")
        if room is None and to is None:
            raise DecodeError(
                "neither TO_ROOM nor TO: expected a room or a component to send it to"
            )
        if room is not None:
            room = _room_in(body, "TO_ROOM")
            yield await self._message(body, room, type_, client)
        if to is not None and (name := self._receiver(body, room)):
            inbox = Names.inbox(name)
            yield await self._message(body, inbox, type_, client | ({"room": room} if room else {}))

    def _receiver(self, body: dict[str, Any], room: str | None) -> str:
        """The client that TO names; nothing for a component that has it by its room."""
        name = bodies.text_of(body, "TO")
        if any(seat.name == name for seat in self.rooms.seats):
            return name
        if room is None and self.rooms.system and name in self.rooms.system.components:
            raise DecodeError(f"TO {name!r}: it hears what is said in its rooms, so name TO_ROOM")
        if room is None:
            names = ", ".join(sorted({seat.name for seat in self.rooms.seats})[:8])
            raise DecodeError(f"TO {name!r}: no client of this name; there are {names}")
        return ""

    async def _message(
        self, body: dict[str, Any], room: str, type_: str, more: dict[str, str]
    ) -> tuple[Message, Stream, dict[str, str]]:
        stream = bodies.stream_of(self.rooms.system, room, type_)
        message = bodies.message_of(body, stream)
        await self.rooms.know(stream.key)
        return message, stream, more

    async def refuse(self, connection: Connection, error: MessageError, text: bytes) -> None:
        """Says why a message is not taken: to its sender, in room `errors`, and in the log."""
        reason = f"this message was not taken: {error}"
        log.warning("refused a message", client=str(connection), reason=str(error))
        try:
            body = bodies.parsed(text, self._settings.format)
        except MessageError:
            body = {}
        connection.write_live(bodies.refusal(connection.name, reason, body))
        notice = Message(ERRORS, "LOG/ERROR", "", "", sent_by=GATEWAY)
        told = bodies.refusal(connection.name, reason, body)
        notice.id, notice.root_id = told["ID"], told["ROOT_ID"]
        payload = text[:TEXT_KEPT].decode(self._settings.format, errors="replace")
        notice.fields = {"TEXT": f"{connection}: {reason}", "PAYLOAD": payload}
        await self._store.send([(notice, Stream(Room(ERRORS), notice.type, {}), {})])

    # who is where

    async def _register(self, connection: Connection, body: dict[str, Any]) -> None:
        raw = bodies.text_of(body, "NAME", bodies.LONGEST_NAME + len(self._token) + 1)
        name = self._proven(raw, str(body.pop("TOKEN", "")))
        if not 0 < len(name) <= bodies.LONGEST_NAME:
            raise DecodeError(f"NAME {name!r}: expected 1 to {bodies.LONGEST_NAME} characters")
        body["NAME"] = name
        if connection.name:
            if name == connection.name:
                return
            await self.leave(connection)
        async with self.rooms.changing:
            seat = await self._seat(name)
            seat.connections.append(connection)
            if seat.left_ms is not None or not seat.taken_ms:
                seat.taken_ms, seat.left_ms, seat.letters = await self._store.now_ms(), None, 0
                await self._store.keep_seat(seat)
            connection.name, connection.raw_name, connection.seat = name, raw, seat
            if connection not in self.rooms.connections:
                self.rooms.connections.append(connection)
            self._delivery.serve(seat)
        log.info("a client is here", client=str(connection), seat=seat.group)
        await self.join(connection, Names.inbox(name))

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
        of_name = [seat for seat in self.rooms.seats if seat.name == name]
        if self._settings.share and of_name:
            return of_name[0]
        vacant = [seat for seat in of_name if seat.vacant]
        for seat in vacant[1:]:  # of a gateway that was killed: they hold the same
            await self.rooms.end(seat)
        if vacant:
            return vacant[0]
        if len(self.rooms.seats) >= MOST_SEATS:
            raise DecodeError(f"{name!r}: {MOST_SEATS} names are known already, expected no more")
        taken = {seat.number for seat in of_name}
        seat = Seat(name, next(n for n in range(1, len(taken) + 2) if n not in taken))
        self.rooms.seats.append(seat)
        return seat

    async def join(self, connection: Connection, room: str) -> None:
        """Lets a client into a room; what has waited for its seat there comes first."""
        seat = connection.seat
        assert seat is not None
        if room in LIVE_ROOMS:
            connection.rooms.add(room)
            await self._ears.listen(room)
            return
        again: list[Read] = []
        async with self.rooms.changing:
            if room not in seat.rooms:
                for key in self.rooms.keys_of(room):
                    await self._store.open_group(key, seat.group, await self.rooms.beginning(key))
                seat.rooms[room] = await self._store.now_ms()
                await self._store.keep_seat(seat)
            elif not seat.in_room(room):
                again = await self._take_up(seat, room)
            await self._ears.listen(room)
            # Together: what is to be sent again is put aside while nobody is in the room.
            connection.rooms.add(room)
            seat.again.extend(again)
        seat.look(self.rooms.keys_of(room))

    async def _take_up(self, seat: Seat, room: str) -> list[Read]:
        """What was given to the seat in this room and not answered, to be sent again."""
        again: list[Read] = []
        for key in self.rooms.keys_of(room):
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
        async with self.rooms.changing:
            connection.rooms.discard(room)
            if room not in seat.rooms or seat.in_room(room):
                return
            for key in self.rooms.keys_of(room):
                await self._store.close_group(key, seat.group)
            del seat.rooms[room]
            await self._store.keep_seat(seat)

    async def leave(self, connection: Connection) -> None:
        """A client is gone; the seat of the last one of its name is kept."""
        seat = connection.seat
        if connection in self.rooms.connections:
            self.rooms.connections.remove(connection)
        if seat is None:
            return
        async with self.rooms.changing:
            connection.seat = None
            seat.connections.remove(connection)
            if not seat.vacant:
                await self._hand_on(seat, connection)
            elif any(each.name == seat.name and not each.vacant for each in self.rooms.seats):
                await self.rooms.end(seat)
            else:
                if seat.task is not None:
                    seat.task.cancel()
                await self._store.acknowledge(seat.group, seat.done)
                seat.done.clear()
                seat.empty()
                seat.left_ms = await self._store.now_ms()
                await self._store.keep_seat(seat)
        log.info("a client left", client=str(connection), reason=connection.ended or "it closed")

    async def _hand_on(self, seat: Seat, gone: Connection) -> None:
        """What one of several clients had not answered goes to the others."""
        owed = seat.owed_to(gone)
        seat.settle(owed)
        for key in {key for key, _ in owed}:
            entries = [entry for at, entry in owed if at == key]
            seat.again.extend(await self._store.claim(seat.group, key, entries))
        seat.news.set()


def _room_in(body: dict[str, Any], field: str) -> str:
    """A room that clients may name. Raises DecodeError."""
    room = bodies.text_of(body, field)
    if room.startswith("@"):
        raise DecodeError(
            f"{field} {room!r}: this is how {room[1:]!r} hears what is said TO it; no room of "
            "others may begin with @"
        )
    return room


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
