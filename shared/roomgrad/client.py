"""A one-shot client: it sends a message into a system and waits for the answer. It has no group."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import redis
from numpy.typing import NDArray

from roomgrad import codec
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import MessageError, NoAnswer, ServerError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.rooms import MessageType, ModelStatus, Room, Stream, System
from roomgrad.server import address, connect

# Messages that open a root are held back while so many of their stream are not acknowledged.
BACKLOG_LIMIT = 1000


class Client:
    """Asks a running system. Use it as a context manager."""

    def __init__(
        self,
        system: System,
        run: str = "",
        redis_url: str = "",
        password_file: str = "",
        name: str = "client",
    ) -> None:
        self.system = system
        self.names = Names(run or system.name)
        self.name = name
        self.redis = connect(address(redis_url), password_file)
        self._commit_script = self.redis.register_script(SCRIPT)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self.redis.close()

    def send(self, message: Message) -> str:
        """Puts a message into its room; answers the entry id.

        Raises SchemaError when it does not fit the room, and ServerError while the room's consumers
        are so far behind that nothing new may be opened.
        """
        stream = self.system.stream(message.room, message.type)
        key = self.names.stream(*stream.key)
        self._hold_back(key)
        message.sent_by = message.sent_by or self.name
        commit = Commit()
        channel = self.names.channel(message.room)
        commit.send(key, channel, codec.header(message), codec.encode(message, stream))
        keys, arguments = commit.parts()
        try:
            reply = self._commit_script(keys=keys, args=arguments)
        except redis.ResponseError as error:
            raise ServerError(f"the server refused the message: {error}") from error
        if reply[0] != b"ok":
            raise ServerError(f"the server refused the message: {b' '.join(reply).decode()}")
        return str(reply[1].decode())

    def ask(
        self,
        room: Room,
        type_: MessageType,
        data: NDArray[Any] | None,
        *,
        answer: tuple[Room, MessageType],
        status: ModelStatus = ModelStatus.VALIDATE,
        timeout_s: float = 10.0,
        fields: Mapping[str, Any] | None = None,
    ) -> Message:
        """Sends a new root and waits for the message of the same ROOT_ID in `answer`.

        Raises NoAnswer when none came in time.
        """
        stream = self.system.stream(*answer)
        key = self.names.stream(*stream.key)
        after = self._newest(key)
        message = Message.open(room, data, type=type_, status=status, **(fields or {}))
        self.send(message)
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            block = max(1, min(1000, round(left * 1000)))
            found: Any = self.redis.xread({key: after}, count=100, block=block)
            for _, entries in found or ():
                for entry, values in entries:
                    after = entry
                    if values.get(b"ROOT_ID") == message.root_id.encode():
                        return self._decoded(entry, values, stream)
        raise NoAnswer(
            f"no answer in room {stream.room} of run {self.names.run!r} within {timeout_s:g} s: "
            f"are its components running? `roomgrad up {self.system.name}` starts them"
        )

    def _decoded(self, entry: bytes, values: dict[bytes, bytes], stream: Stream) -> Message:
        flat = [part for pair in values.items() for part in pair]
        try:
            return codec.decode(entry.decode(), flat, stream)
        except MessageError as error:
            raise NoAnswer(f"the answer cannot be read: {error}") from error

    def _newest(self, key: str) -> bytes:
        newest: Any = self.redis.xrevrange(key, count=1)
        entry: bytes = newest[0][0] if newest else b"0-0"
        return entry

    def _hold_back(self, key: str) -> None:
        if not self.redis.exists(key):
            return
        for group in self.redis.xinfo_groups(key):
            open_ = (group["lag"] or 0) + group["pending"]
            if open_ >= BACKLOG_LIMIT:
                raise ServerError(
                    f"{group['name'].decode()} is {open_} messages behind in {key}: "
                    f"start it or add replicas, then send again"
                )
