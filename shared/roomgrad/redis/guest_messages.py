"""What a guest sends and receives, without a connection: how a root opens, what comes home."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import redis

from roomgrad import codec
from roomgrad.commit import Commit
from roomgrad.errors import MessageError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.rooms import MessageType, System


class Sending(NamedTuple):
    """A message as it is sent: what `Commit.send` takes."""

    stream: str
    channel: str
    header: bytes
    fields: list[bytes]


class Sender(Protocol):
    """What a guest needs of a client."""

    system: System
    names: Names
    name: str
    redis: redis.Redis

    def encode(self, message: Message) -> Sending: ...

    def hold_back(self, key: str) -> None: ...

    def apply(self, work: Callable[[Commit], None]) -> list[str]: ...


class Root(NamedTuple):
    """A root that is open."""

    enter: str
    leave: str
    size: int  # bytes of the arrays that opened it
    wants_gradient: bool

    @classmethod
    def of(cls, message: Message, leave: str) -> Root:
        """Return the root that a message opens."""
        size = sum(each.nbytes for each in message.arrays().values())
        return cls(message.room, leave, size, message.wants_gradient)


def received(
    system: System, run: str, entry: str, values: dict[bytes, bytes]
) -> tuple[str, Message | str]:
    """Return the ROOT_ID of an entry in a guest's stream, and its message or why there is none."""
    root_id = values.get(b"ROOT_ID", b"").decode(errors="replace")
    try:
        body = codec.parse_body(values.get(b"m", b""))
        if body.get("TYPE") == MessageType.LOG_ERROR.value:
            return root_id, f"{body.get('TEXT', '')}; `roomgrad dead list --run {run}` shows it"
        stream = system.stream(str(body.get("TO_ROOM")), str(body.get("TYPE")))
        flat = [part for pair in values.items() for part in pair]
        return root_id, codec.decode(entry, flat, stream)
    except MessageError as error:
        return root_id, f"the answer cannot be read: {error}"


class Opening(NamedTuple):
    """A root that is about to be opened."""

    message: Message
    root: Root
    sending: Sending
