"""A probe sends messages to a component through its rooms, and reads its replies."""

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
from roomgrad.errors import CheckFailed, MessageError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.ops.check.streams import TrainingStreams
from roomgrad.redis import unanswered
from roomgrad.redis.client import Client
from roomgrad.redis.streams import newest_entry, read_after
from roomgrad.rooms import ModelStatus, Stream

Floats = NDArray[np.floating[Any]]


class Probe:
    """One component in one run.

    client: reads its replies and state. sender: sends messages to it. timeout_s: how long to wait
    for a reply.
    """

    def __init__(
        self,
        client: redis.Redis,
        sender: Client,
        names: Names,
        component: str,
        streams: TrainingStreams,
        timeout_s: float,
    ) -> None:
        self._client: Any = client
        self._sender = sender
        self.names = names
        self.component = component
        self.streams = streams
        self.timeout_s = timeout_s
        self._roots: list[bytes] = []  # opened by this probe; others may train in the same run

    # requests

    def forward(self, inputs: Floats, status: ModelStatus) -> tuple[Message, Message]:
        """Send a forward message, and return it and its reply.

        Raises CheckFailed if no reply comes, or a wrong one.
        """
        message = Message.open(self.streams.inputs.room, inputs, status=status)
        self._roots.append(message.root_id.encode())
        after = self.newest(self.streams.outputs)
        self._sender.send(message)
        return message, self._reply(self.streams.outputs, after, message)

    def gradient(self, request: Message, reply: Message, upstream: Floats) -> Message:
        """Send the gradient of a reply, and return the gradient of the request.

        Raises CheckFailed if none comes, or a wrong one.
        """
        after = self.newest(self.streams.returned)
        self.send_gradient(reply, upstream)
        found = self._reply(self.streams.returned, after, request)
        if found.id != request.id:
            raise CheckFailed(
                f"a gradient carries the ID of the forward message that it answers: expected "
                f"{request.id}, got {found.id}"
            )
        return found

    def send_gradient(self, reply: Message, upstream: Floats) -> None:
        """Send the gradient of a reply, under its ID; all others that are added to it are empty."""
        stream = self.streams.upstream
        for number, sender in enumerate(stream.senders or [""]):
            data = None if number else upstream
            self._sender.send(
                replace(reply, type=stream.type, data=data, fields={}, sent_by=sender, entry="")
            )

    def values(self, inputs: Floats) -> Floats:
        """Return the outputs for inputs, in float64, without a training step."""
        return self.forward(inputs, ModelStatus.VALIDATE)[1].array.astype("<f8")

    def inject(self, stream: Stream, root_id: str, **fields: Any) -> None:
        """Add a message to a stream whose contract forbids it."""
        body = {"v": 1, "ID": root_id, "ROOT_ID": root_id, "TYPE": stream.type}
        body |= {"TO_ROOM": stream.room.name, "SENT_BY": "roomgrad", "MODEL_STATUS": 1, **fields}
        self._client.xadd(
            self.names.stream(*stream.key),
            {"ID": root_id, "ROOT_ID": root_id, "m": orjson.dumps(body)},
        )

    # replies

    def newest(self, stream: Stream) -> str:
        """Return the ID of the newest entry; later ones are replies to later requests."""
        return newest_entry(self._client, self.names.stream(*stream.key))

    def is_silent(self, stream: Stream, after: str, root_id: str, seconds: float) -> bool:
        """Whether no message of a root comes within this time."""
        return all(_root(pairs) != root_id for _, pairs in self._entries(stream, after, seconds))

    def _reply(self, stream: Stream, after: str, request: Message) -> Message:
        for entry, pairs in self._entries(stream, after, self.timeout_s):
            if _root(pairs) == request.root_id:
                found = _decoded(entry, pairs, stream)
                if found.status != request.status:
                    raise CheckFailed(
                        f"{stream.room} {stream.type}: a reply inherits MODEL_STATUS: expected "
                        f"{int(request.status)}, got {int(found.status)}"
                    )
                return found
        why = unanswered.reason(self._client, self.names, self._sender.system, request.root_id)
        if self.newest(stream) != after:
            why += "; other roots came: a reply inherits the ROOT_ID of what it answers"
        raise CheckFailed(
            f"no {stream.type} of root {request.root_id} came into room {stream.room} within "
            f"{self.timeout_s:g} s: {why}"
        )

    def _entries(
        self, stream: Stream, after: str, seconds: float
    ) -> Iterator[tuple[str, dict[bytes, bytes]]]:
        """Yield entries of a stream as they come."""
        positions, until = {self.names.stream(*stream.key): after}, time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for _, entry, pairs in read_after(self._client, positions, min(0.5, left)):
                yield entry, pairs

    # state

    def remembered(self) -> int:
        """Return the number of records of this probe in the component's memory."""
        records = self._client.hgetall(self.names.memory(self.component)).items()
        return sum(any(root in pair[0] + pair[1] for root in self._roots) for pair in records)

    def model(self) -> tuple[str, int]:
        """Return version and step of its model; an empty text and 0 without a model."""
        version, step = self._client.hmget(self.names.model(self.component), "version", "step")
        return (version or b"").decode(), int(step or 0)

    def dead(self) -> int:
        """Return the number of dead letters of the run."""
        return int(self._client.xlen(self.names.dead()))


def _decoded(entry: str, pairs: dict[bytes, bytes], stream: Stream) -> Message:
    try:
        return codec.decode(entry, [part for pair in pairs.items() for part in pair], stream)
    except MessageError as error:
        raise CheckFailed(
            f"{stream.room} {stream.type} does not keep its contract: {error}"
        ) from error


def _root(pairs: dict[bytes, bytes]) -> str:
    """Return the ROOT_ID of an entry, or an empty text."""
    try:
        return str(codec.parse_body(pairs.get(b"m", b"{}")).get("ROOT_ID", ""))
    except MessageError:
        return ""
