"""What clients send: commands are executed, messages go into the run, the rest is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import structlog

from roomgrad.errors import DecodeError, MessageError
from roomgrad.messages import Message
from roomgrad.names import ERRORS, GATEWAY, Names
from roomgrad.rooms import Room, Stream

from . import codec
from .backlog import Backlog
from .connection import Connection
from .registry import Registry
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Store

log = structlog.get_logger("roomgrad")

COMMANDS = "_command"  # swergio's room in which clients hear of each other
QUOTED_CHARACTERS = 200  # of a refused message, in room `errors`

Addressed = tuple[Message, Stream, dict[str, str]]  # with additional fields of the entry


class Dispatcher:
    """Execute commands of clients, and send their messages into the run."""

    def __init__(
        self, settings: GatewaySettings, store: Store, rooms: Rooms, registry: Registry
    ) -> None:
        self._settings = settings
        self._store = store
        self._rooms = rooms
        self._registry = registry
        self._backlog = Backlog(store, rooms)

    async def dispatch(self, connection: Connection, body: dict[str, Any]) -> bool:
        """Handle a body; return False if the client says goodbye. Raises MessageError."""
        type_ = codec.type_of(body)
        if type_ == "COMMAND/DISCONNECT":
            return False
        if type_ == "COMMAND/REGISTER":
            await self._registry.register(connection, body)
        elif not connection.name:
            raise DecodeError(
                f"{type_} of a client without a name: expected COMMAND/REGISTER first"
            )
        elif type_ == "COMMAND/JOINROOM":
            await self._registry.join(connection, _room_in(body, "ROOM"))
        elif type_ == "COMMAND/LEAVEROOM":
            await self._registry.leave_room(connection, codec.text_field(body, "ROOM"))
        else:
            await self._send(connection, body, type_)
            return True
        self._tell_others(connection, body)
        return True

    def _tell_others(self, connection: Connection, body: dict[str, Any]) -> None:
        """Forward a command to the clients that are in the room of commands now."""
        if body.get("TO_ROOM") == COMMANDS:
            codec.complete(body, connection.name)
            for other in self._rooms.present(COMMANDS):
                if other is not connection:
                    other.write_live(body)

    async def _send(self, connection: Connection, body: dict[str, Any], type_: str) -> None:
        if body.get("SENT_BY") == connection.raw_name:
            body["SENT_BY"] = connection.name  # without the token
        codec.complete(body, connection.name)
        subscription = connection.subscription
        assert subscription is not None
        root = str(body["ROOT_ID"])
        known = subscription.known(root)
        for name, value in known.inherited().items():
            if body.get(name) is None:
                body[name] = value
        sends = [message async for message in self._addressed(connection, body, type_)]
        for message, _, _ in sends:
            message.guest = known.guest
        if subscription.opens(root):
            for _, stream, _ in sends:
                await self._backlog.wait(stream.key)
            room = str(body.get("TO_ROOM", ""))
            seed, status = body.get("SEED"), body.get("MODEL_STATUS")
            subscription.opened(root, str(body["ID"]), room, seed, status)
        answered = subscription.answered_by(root)
        newest = self._rooms.newest_answered(answered)
        await self._store.send(sends, answered, subscription.group, newest)
        subscription.settle(answered)
        for _, stream, _ in sends:
            self._backlog.count(stream.key)

    async def _addressed(
        self, connection: Connection, body: dict[str, Any], type_: str
    ) -> AsyncIterator[Addressed]:
        """Yield the message to its room, and the one to the client in TO. Raises MessageError."""
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
        """Return the client in TO, or an empty text for a component that reads the room."""
        name = codec.text_field(body, "TO")
        names = {each.name for each in self._rooms.subscriptions}
        if name in names:
            return name
        if room is None and self._rooms.system and name in self._rooms.system.components:
            raise DecodeError(f"TO {name!r}: it hears what is said in its rooms, so name TO_ROOM")
        if room is None:
            known = ", ".join(sorted(names)[:8])
            raise DecodeError(f"TO {name!r}: no client of this name; there are {known}")
        return ""

    async def _message(
        self, body: dict[str, Any], room: str, type_: str, more: dict[str, str]
    ) -> Addressed:
        stream = codec.stream_of(self._rooms.system, room, type_)
        message = codec.message_of(body, stream)
        await self._rooms.ensure(stream.key)
        return message, stream, more

    async def refuse(self, connection: Connection, error: MessageError, text: bytes) -> None:
        """Report why a message is refused: to its sender, in room `errors`, and in the log."""
        reason = f"this message was not taken: {error}"
        log.warning("refused a message", client=str(connection), reason=str(error))
        try:
            body = codec.parse(text, self._settings.format)
        except MessageError:
            body = {}
        told = codec.refusal(connection.name, reason, body)
        connection.write_live(told)
        payload = text[:QUOTED_CHARACTERS].decode(self._settings.format, errors="replace")
        fields = {"TEXT": f"{connection}: {reason}", "PAYLOAD": payload}
        notice = Message(
            ERRORS, told["TYPE"], told["ID"], told["ROOT_ID"], sent_by=GATEWAY, fields=fields
        )
        await self._store.send([(notice, Stream(Room(ERRORS), notice.type, {}), {})])


def _room_in(body: dict[str, Any], field: str) -> str:
    """Return a room that clients may name. Raises DecodeError."""
    room = codec.text_field(body, field)
    if room.startswith("@"):
        raise DecodeError(
            f"{field} {room!r}: this is how {room[1:]!r} hears what is said TO it; names of other "
            "rooms may not begin with @"
        )
    return room
