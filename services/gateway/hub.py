"""What clients say: commands are done, messages go into the run, the rest is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog

from roomgrad.errors import DecodeError, MessageError
from roomgrad.messages import Message
from roomgrad.names import ERRORS, GATEWAY, Names
from roomgrad.rooms import Room, Stream

from . import bodies
from .backlog import Backlog
from .connection import Connection
from .members import Members
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Store

log = structlog.get_logger("roomgrad")

COMMANDS = "_command"  # the room of the original in which clients hear of each other
TEXT_KEPT = 200  # characters of a refused message that stand in room `errors`


class Hub:
    """Brings what clients say into the run."""

    def __init__(
        self, settings: GatewaySettings, store: Store, rooms: Rooms, members: Members
    ) -> None:
        self._settings = settings
        self._store = store
        self._rooms = rooms
        self._members = members
        self._backlog = Backlog(store, rooms)

    # what a client says

    async def take(self, connection: Connection, body: dict[str, Any]) -> bool:
        """Does what a body says; False for a farewell. Raises MessageError."""
        type_ = bodies.type_of(body)
        if type_ == "COMMAND/DISCONNECT":
            return False
        if type_ == "COMMAND/REGISTER":
            await self._members.register(connection, body)
        elif not connection.name:
            raise DecodeError(
                f"{type_} of a client without a name: expected COMMAND/REGISTER first"
            )
        elif type_ == "COMMAND/JOINROOM":
            await self._members.join(connection, _room_in(body, "ROOM"))
        elif type_ == "COMMAND/LEAVEROOM":
            await self._members.leave_room(connection, bodies.text_of(body, "ROOM"))
        else:
            await self._send(connection, body, type_)
            return True
        self._tell_others(connection, body)
        return True

    def _tell_others(self, connection: Connection, body: dict[str, Any]) -> None:
        """Commands reach who is in the room of the commands, and wait for nobody."""
        if body.get("TO_ROOM") == COMMANDS:
            bodies.completed(body, connection.name)
            for other in self._rooms.present(COMMANDS):
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
        await self._store.send(sends, answers, seat.group, self._rooms.heard(answers))
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
        if any(seat.name == name for seat in self._rooms.seats):
            return name
        if room is None and self._rooms.system and name in self._rooms.system.components:
            raise DecodeError(f"TO {name!r}: it hears what is said in its rooms, so name TO_ROOM")
        if room is None:
            names = ", ".join(sorted({seat.name for seat in self._rooms.seats})[:8])
            raise DecodeError(f"TO {name!r}: no client of this name; there are {names}")
        return ""

    async def _message(
        self, body: dict[str, Any], room: str, type_: str, more: dict[str, str]
    ) -> tuple[Message, Stream, dict[str, str]]:
        stream = bodies.stream_of(self._rooms.system, room, type_)
        message = bodies.message_of(body, stream)
        await self._rooms.know(stream.key)
        return message, stream, more

    async def refuse(self, connection: Connection, error: MessageError, text: bytes) -> None:
        """Says why a message is not taken: to its sender, in room `errors`, and in the log."""
        reason = f"this message was not taken: {error}"
        log.warning("refused a message", client=str(connection), reason=str(error))
        try:
            body = bodies.parsed(text, self._settings.format)
        except MessageError:
            body = {}
        told = bodies.refusal(connection.name, reason, body)
        connection.write_live(told)
        payload = text[:TEXT_KEPT].decode(self._settings.format, errors="replace")
        fields = {"TEXT": f"{connection}: {reason}", "PAYLOAD": payload}
        notice = Message(
            ERRORS, told["TYPE"], told["ID"], told["ROOT_ID"], sent_by=GATEWAY, fields=fields
        )
        await self._store.send([(notice, Stream(Room(ERRORS), notice.type, {}), {})])


def _room_in(body: dict[str, Any], field: str) -> str:
    """A room that clients may name. Raises DecodeError."""
    room = bodies.text_of(body, field)
    if room.startswith("@"):
        raise DecodeError(
            f"{field} {room!r}: this is how {room[1:]!r} hears what is said TO it; no room of "
            "others may begin with @"
        )
    return room
