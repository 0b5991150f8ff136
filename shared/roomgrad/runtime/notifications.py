"""What rings on the channels of a component's rooms: headers, and messages published by hand."""

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
from roomgrad.redis.cluster import ELSEWHERE
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

    Headers that the runtime published cost a look at their first bytes. A whole message that
    somebody PUBLISHed is taken into its stream, once by its ID, so that redis-cli alone can talk to
    a system. Anything else is answered in room `errors` with the right command.
    """

    def __init__(self, identity: Identity) -> None:
        names, component = identity.names, identity.component
        self._names = names
        self._system = component.system
        self._component = component.name
        rooms = sorted({stream.room.name for stream in component.streams})
        self._rooms = {names.channel(room).encode(): room for room in rooms}
        self._own = names.alive(identity.consumer).encode()
        self._take_script = scripts.load("ingest").encode()
        self.unheard = 0  # own heartbeats that rang and did not arrive yet
        self._heard_at = time.monotonic()  # when one arrived, or the subscription was made

    @property
    def deaf(self) -> bool:
        """Whether own heartbeats were published and none arrived for a while."""
        return self.unheard > DEAF_BEATS and time.monotonic() - self._heard_at > DEAF_S

    def subscribe(self, wire: Connection) -> None:
        """SUBSCRIBEs on a fresh connection; on a cluster SSUBSCRIBEs."""
        self._hear_own()
        verb = b"SSUBSCRIBE" if wire.ring == SPUBLISH else b"SUBSCRIBE"
        wire.send([verb, self._own, *self._rooms])

    def receive(self, replies: list[Any], wire: Connection) -> None:
        """Looks at what rang; `wire` is for taking messages into their streams."""
        for reply in replies:
            if _is_over(reply):
                raise ConnectionLost("the slot of the channels is served elsewhere now")
            if not isinstance(reply, list) or reply[0] not in (b"message", b"smessage"):
                continue
            _, channel, payload = reply
            if channel == self._own:
                self._hear_own()
            elif not payload.startswith(codec.RING_PREFIX):
                self._take(self._rooms[channel], payload, wire)

    def _hear_own(self) -> None:
        self.unheard, self._heard_at = 0, time.monotonic()

    def _take(self, room: str, payload: bytes, wire: Connection) -> None:
        try:
            message, stream = self._read(room, payload)
            fields = codec.encode(message, stream)
            token = f"{room} {message.type} {message.id}"  # a gradient has its forward's ID
        except MessageError as error:
            stream = ERROR_STREAM
            message = self._refusal(room, payload, error, wire.ring)
            fields = codec.encode(message, stream)
            token = "refused:" + hashlib.sha1(payload, usedforsecurity=False).hexdigest()
        self._store(token, message, stream, fields, wire)

    def _read(self, room: str, payload: bytes) -> tuple[Message, Stream]:
        body = codec.parse_body(payload)
        body.setdefault("TO_ROOM", room)
        type_ = body.get("TYPE")
        stream = self._system.find(room, type_) if isinstance(type_, str) else None
        if stream is None:
            types = " and ".join(s.type for s in self._system.streams if s.room.name == room)
            raise MessageError(f"TYPE: room {room} takes {types}, got {format_value(type_)}")
        return codec.from_body(body, stream, {}), stream

    def _refusal(self, room: str, payload: bytes, error: MessageError, ring: bytes) -> Message:
        example = (
            f"{ring.decode()} '{self._names.channel(room)}' "
            '\'{"ID":"my-1","ROOT_ID":"my-1","TYPE":"DATA/FORWARD","MODEL_STATUS":2,"DATA":[...]}\''
        )
        text = f"room {room}: what was published is no message ({error}); send it as {example}"
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
        self, token: str, message: Message, stream: Stream, fields: list[bytes], wire: Connection
    ) -> None:
        limit = b"%d" % ERRORS_KEPT if stream.room.name == ERRORS else b""
        keys = [self._names.taken().encode(), self._names.stream(*stream.key).encode()]
        arguments = [
            token.encode(),
            wire.ring,
            self._names.channel(stream.room.name).encode(),
            codec.header(message),
            limit,
            *fields,
        ]
        reply = wire.call([b"EVAL", self._take_script, b"2", *keys, *arguments])
        if isinstance(reply, ReplyError) and str(reply).startswith("NOPERM"):
            log.debug("what was published is left to who may take it", token=token[:300])
        elif isinstance(reply, ReplyError):
            log.error("what was published cannot be taken", token=token[:300], reason=str(reply))


def _is_over(reply: Any) -> bool:
    """Whether a subscription ends because its slot leaves a node of a cluster, or has left it."""
    if isinstance(reply, ReplyError):
        return str(reply).startswith(ELSEWHERE)
    return isinstance(reply, list) and reply[0] == b"sunsubscribe"
