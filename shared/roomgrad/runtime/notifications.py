"""Reads the channels of a component's rooms: notifications, and messages published by hand."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import structlog

from roomgrad import codec, scripts
from roomgrad.commit import SPUBLISH
from roomgrad.errors import ConnectionLost, MessageError, format_value
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS
from roomgrad.redis.cluster import REDIRECTS
from roomgrad.redis.connection import Connection, ReplyError
from roomgrad.rooms import MessageType, Stream
from roomgrad.runtime.dead_letters import ERROR_STREAM, ERRORS_KEPT
from roomgrad.runtime.identity import Identity

log = structlog.get_logger("roomgrad")

# Own heartbeats that were published and did not arrive, and for how long, until the subscription is
# made again.
DEAF_BEATS, DEAF_S = 3, 3.0


class Notifications:
    """Subscribes to the channels of some rooms.

    A notification of the runtime is recognized by its first bytes and ignored. A whole message that
    a user publishes is added to its stream, once by its ID, so that redis-cli alone can send
    messages to a system. Anything else is answered in room `errors` with a correct command.
    """

    def __init__(self, identity: Identity) -> None:
        names, component = identity.names, identity.component
        self._names = names
        self._system = component.system
        self._component = component.name
        rooms = sorted({stream.room.name for stream in component.streams})
        self._rooms = {names.channel(room).encode(): room for room in rooms}
        self._own = names.alive(identity.consumer).encode()
        self._ingest_script = scripts.load("ingest").encode()
        self.unheard = 0  # own heartbeats that were published and did not arrive yet
        self._heard_at = time.monotonic()  # when one arrived, or the subscription was made

    @property
    def deaf(self) -> bool:
        """Whether own heartbeats were published and none arrived for a while."""
        return self.unheard > DEAF_BEATS and time.monotonic() - self._heard_at > DEAF_S

    def subscribe(self, connection: Connection) -> None:
        """Send SUBSCRIBE on a new connection; in a cluster, SSUBSCRIBE."""
        self._heard_own()
        verb = b"SSUBSCRIBE" if connection.publish_command == SPUBLISH else b"SUBSCRIBE"
        connection.send([verb, self._own, *self._rooms])

    def receive(self, replies: list[Any], connection: Connection) -> None:
        """Process what arrived; `connection` is used to add messages to their streams."""
        for reply in replies:
            if _is_unsubscribed(reply):
                raise ConnectionLost("the slot of the channels has moved to another node")
            if not isinstance(reply, list) or reply[0] not in (b"message", b"smessage"):
                continue
            _, channel, payload = reply
            if channel == self._own:
                self._heard_own()
            elif not payload.startswith(codec.HEADER_PREFIX):
                self._ingest(self._rooms[channel], payload, connection)

    def _heard_own(self) -> None:
        self.unheard, self._heard_at = 0, time.monotonic()

    def _ingest(self, room: str, payload: bytes, connection: Connection) -> None:
        own = connection.database
        named = None
        try:
            body = codec.parse_body(payload)
            named = body.pop("DATABASE", None)
            if named not in (None, own):
                return
            message, stream = self._read(room, body)
            fields = codec.encode(message, stream)
            token = f"{room} {message.type} {message.id}"  # forward and gradient share an ID
        except MessageError as error:
            stream = ERROR_STREAM
            message = self._refusal(room, payload, error, connection.publish_command)
            fields = codec.encode(message, stream)
            token = "refused:" + hashlib.sha1(payload, usedforsecurity=False).hexdigest()
        database = own if named is None else 0
        self._store(token, message, stream, [b"%d" % database, *fields], connection)

    def _read(self, room: str, body: dict[str, Any]) -> tuple[Message, Stream]:
        body.setdefault("TO_ROOM", room)
        type_ = body.get("TYPE")
        stream = self._system.find(room, type_) if isinstance(type_, str) else None
        if stream is None:
            types = " and ".join(s.type for s in self._system.streams if s.room.name == room)
            raise MessageError(f"TYPE: room {room} accepts {types}, got {format_value(type_)}")
        return codec.from_body(body, stream, {}), stream

    def _refusal(self, room: str, payload: bytes, error: MessageError, publish: bytes) -> Message:
        example = (
            f"{publish.decode()} '{self._names.channel(room)}' "
            '\'{"ID":"my-1","ROOT_ID":"my-1","TYPE":"DATA/FORWARD","MODEL_STATUS":2,"DATA":[...]}\''
        )
        text = f"room {room}: what was published is not a message ({error}); send it as {example}"
        fields = {"TEXT": text, "PAYLOAD": payload[:200].decode(errors="replace")}
        return Message(
            ERRORS,
            MessageType.LOG_ERROR.value,
            new_id(),
            new_id(),
            sent_by=self._component,
            fields=fields,
        )

    def _store(
        self,
        token: str,
        message: Message,
        stream: Stream,
        fields: list[bytes],
        connection: Connection,
    ) -> None:
        limit = b"%d" % ERRORS_KEPT if stream.room.name == ERRORS else b""
        keys = [self._names.taken(), self._names.stream(*stream.key), self._names.run_info()]
        arguments = [
            token.encode(),
            connection.publish_command,
            self._names.channel(stream.room.name).encode(),
            codec.header(message),
            limit,
            *fields,
        ]
        reply = connection.call(
            [b"EVAL", self._ingest_script, b"3", *(key.encode() for key in keys), *arguments]
        )
        if isinstance(reply, ReplyError) and str(reply).startswith("NOPERM"):
            log.debug(
                "a published message is left to other components",
                token=token[:300],
            )
        elif isinstance(reply, ReplyError):
            log.error(
                "a published message cannot be added to its stream",
                token=token[:300],
                reason=str(reply),
            )


def _is_unsubscribed(reply: Any) -> bool:
    """Return whether a subscription ended because its slot moves to another node."""
    if isinstance(reply, ReplyError):
        return str(reply).startswith(REDIRECTS)
    return isinstance(reply, list) and reply[0] == b"sunsubscribe"
