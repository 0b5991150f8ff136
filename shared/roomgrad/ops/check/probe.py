"""Speaks to a component through its rooms, as its neighbours would, and hears what it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import redis
from numpy.typing import NDArray

from roomgrad import codec
from roomgrad.errors import MessageError, RoomgradError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.ops.check.rooms import Rooms
from roomgrad.redis.client import Client
from roomgrad.rooms import ModelStatus, Stream

Floats = NDArray[np.floating[Any]]


class Failed(RoomgradError):
    """Raised when a component does not do what it should; the text says what, and what came."""


class Probe:
    """One component in one run."""

    def __init__(
        self,
        client: redis.Redis,
        sender: Client,
        names: Names,
        component: str,
        rooms: Rooms,
        timeout_s: float,
    ) -> None:
        self._client: Any = client
        self._sender = sender
        self.names = names
        self.component = component
        self.rooms = rooms
        self.timeout_s = timeout_s
        self._roots: list[bytes] = []  # that were opened here; others may train in the same run
        self._last_words = self._newest_letter()

    # what it is asked

    def forward(self, inputs: Floats, status: ModelStatus) -> tuple[Message, Message]:
        """A forward message and its answer. Raises Failed where none comes, or a wrong one."""
        stream = self.rooms.asked
        message = Message.open(stream.room, inputs, status=status)
        self._roots.append(message.root_id.encode())
        after = self._newest(self.rooms.answered)
        self._sender.send(message)
        return message, self.answer(self.rooms.answered, after, message)

    def gradient(self, asked: Message, answer: Message, upstream: Floats) -> Message:
        """What comes back for the gradient of an answer. Raises Failed."""
        after = self._newest(self.rooms.returned)
        self.send_gradient(answer, upstream)
        found = self.answer(self.rooms.returned, after, asked)
        if found.id != asked.id:
            raise Failed(
                f"a gradient carries the ID of the forward message that it answers: expected "
                f"{asked.id}, got {found.id}"
            )
        return found

    def send_gradient(self, answer: Message, upstream: Floats) -> None:
        """The gradient of an answer, under its ID."""
        stream = self.rooms.upstream
        self._sender.send(
            replace(answer, type=stream.type, data=upstream, fields={}, sent_by="", entry="")
        )

    def values(self, inputs: Floats) -> Floats:
        """Outputs for inputs, by a message from which nobody learns."""
        _, answer = self.forward(inputs, ModelStatus.VALIDATE)
        return answer.array.astype("<f8")

    def inject(self, stream: Stream, root_id: str, **fields: Any) -> None:
        """Puts a message into a stream that its contract would refuse."""
        body = {"v": 1, "ID": root_id, "ROOT_ID": root_id, "TYPE": stream.type}
        body |= {"TO_ROOM": stream.room.name, "SENT_BY": "roomgrad", "MODEL_STATUS": 1, **fields}
        self._client.xadd(
            self.names.stream(*stream.key),
            {"ID": root_id, "ROOT_ID": root_id, "m": orjson.dumps(body)},
        )

    # what it answers

    def answer(self, stream: Stream, after: str, asked: Message) -> Message:
        """The message of the root that was asked. Raises Failed."""
        for entry, pairs in self._coming(stream, after):
            if _root(pairs) == asked.root_id:
                found = self._read(entry, pairs, stream)
                if found.status != asked.status:
                    raise Failed(
                        f"{stream.room} {stream.type}: a reply inherits MODEL_STATUS: expected "
                        f"{int(asked.status)}, got {int(found.status)}"
                    )
                return found
        raise Failed(
            f"no {stream.type} of root {asked.root_id} came into room {stream.room} within "
            f"{self.timeout_s:g} s: a reply inherits the ROOT_ID of what it answers{self._why()}"
        )

    def silent(self, stream: Stream, after: str, root_id: str, seconds: float) -> bool:
        """Whether nothing of a root comes for so long."""
        return all(_root(pairs) != root_id for _, pairs in self._coming(stream, after, seconds))

    def newest(self, stream: Stream) -> str:
        """From where on answers are new."""
        return self._newest(stream)

    def _coming(
        self, stream: Stream, after: str, seconds: float | None = None
    ) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        key = self.names.stream(*stream.key)
        until = time.monotonic() + (self.timeout_s if seconds is None else seconds)
        while (left := until - time.monotonic()) > 0:
            block = max(1, min(500, round(left * 1000)))
            found = self._client.xread({key: after}, count=100, block=block)
            for entry, pairs in found[0][1] if found else ():
                after = entry.decode()
                yield after, pairs

    def _read(self, entry: str, pairs: dict[bytes, bytes], stream: Stream) -> Message:
        flat = [part for pair in pairs.items() for part in pair]
        try:
            return codec.decode(entry, flat, stream)
        except MessageError as error:
            place = f"{stream.room} {stream.type}"
            raise Failed(f"{place} does not keep its contract: {error}") from error

    def _newest(self, stream: Stream) -> str:
        newest = self._client.xrevrange(self.names.stream(*stream.key), count=1)
        return newest[0][0].decode() if newest else "0-0"

    def _why(self) -> str:
        """What the newest dead letter says, if there is one that was not there before."""
        newest = self._newest_letter()
        if newest == self._last_words:
            return ""
        _, pairs = newest[0]
        reason = codec.parse_body(pairs.get(b"history", b"{}")).get("reason", "")
        return f"; the newest dead letter says: {reason}"

    def _newest_letter(self) -> list[Any]:
        found: list[Any] = self._client.xrevrange(self.names.dead(), count=1)
        return found

    # what it keeps

    def remembered(self) -> int:
        """Records in its memory of what was asked here."""
        records = self._client.hgetall(self.names.memory(self.component)).items()
        return sum(any(root in pair[0] + pair[1] for root in self._roots) for pair in records)

    def model(self) -> tuple[str, int]:
        """Version and step of its model; nothing and 0 where it has none."""
        version, step = self._client.hmget(self.names.model(self.component), "version", "step")
        return (version or b"").decode(), int(step or 0)

    def dead(self) -> int:
        """Dead letters of the run."""
        return int(self._client.xlen(self.names.dead()))


def _root(pairs: dict[bytes, bytes]) -> str:
    """The ROOT_ID of an entry, by its message."""
    try:
        return str(codec.parse_body(pairs.get(b"m", b"{}")).get("ROOT_ID", ""))
    except MessageError:
        return ""
