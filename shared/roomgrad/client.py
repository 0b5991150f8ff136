"""A one-shot client: it sends a message into a system and waits for the answer. It has no group."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import redis
from numpy.typing import NDArray

from roomgrad import codec
from roomgrad.commit import SCRIPT, Commit
from roomgrad.context import Context
from roomgrad.errors import ContractError, MessageError, NoAnswer, ServerError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.rooms import MessageType, ModelStatus, Room, Stream, System
from roomgrad.server import address, connect

# Messages that open a root are held back while so many of their stream are not acknowledged.
BACKLOG_LIMIT = 1000
DURABLE_S = 5.0  # how long an acknowledgement waits for the disk

T = TypeVar("T")


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
        commit = Commit()
        self._stage(message, commit)
        return str(self._committed(commit, self.redis)[1].decode())

    def commit(self, work: Callable[[Context], T], *, durable: bool = False) -> T:
        """Reads and writes hashes and sends messages as one, as a handler does; answers `work`'s.

        work: reads through the context it is given, and stages there; called again when something
        that it read has changed before the commit.
        durable: returns when the server has it on its disk, where the server can tell (WAITAOF).

        Raises what `work` raises, SchemaError, and ServerError.
        """
        client: Any = self.redis
        with client.client() as connection:  # WAITAOF speaks of what this connection wrote
            while True:
                context = Context(self.names, self.name, None, ClientReads(connection))
                answer = work(context)
                commit = Commit()
                if context.later:  # nobody would be there to deliver it
                    raise ContractError(f"{self.name} is no component: it cannot send later")
                for message in context.sent:
                    self._stage(message, commit)
                context.stage(commit)
                if self._committed(commit, connection)[0] == b"ok":
                    break
            if durable:
                wait_for_disk(connection)
        return answer

    def _stage(self, message: Message, commit: Commit) -> None:
        stream = self.system.stream(message.room, message.type)
        key = self.names.stream(*stream.key)
        self._hold_back(key)
        message.sent_by = message.sent_by or self.name
        channel = self.names.channel(message.room)
        commit.send(key, channel, codec.header(message), codec.encode(message, stream))

    def _committed(self, commit: Commit, connection: redis.Redis) -> list[bytes]:
        keys, arguments = commit.parts()
        try:
            reply: list[bytes] = self._commit_script(keys, arguments, client=connection)
        except redis.ResponseError as error:
            raise ServerError(f"the server refused: {error}") from error
        if reply[0] not in (b"ok", b"stale"):
            raise ServerError(f"the server refused: {b' '.join(reply).decode(errors='replace')}")
        return reply

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
        sent = self.send(message).encode()
        if answer == (room, type_):
            after = sent  # the question is no answer to itself
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


class ClientReads:
    """Hashes read through redis-py."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection: Any = connection

    def hget(self, key: str, field: bytes) -> bytes | None:
        """One field, or None."""
        value: bytes | None = self._connection.hget(key, field)
        return value

    def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
        """Some fields, in one round trip."""
        values: list[bytes | None] = self._connection.hmget(key, fields)
        return values

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        """A whole hash."""
        values: dict[bytes, bytes] = self._connection.hgetall(key)
        return values


def wait_for_disk(connection: Any) -> bool:
    """Waits until what this connection wrote is in the append-only file; False if it cannot tell.

    Raises ServerError when the disk takes longer than `DURABLE_S`.
    """
    try:
        local, _ = connection.execute_command("WAITAOF", 1, 0, round(DURABLE_S * 1000))
    except redis.ResponseError:  # no append-only file, or a server that does not know the command
        return False
    if not local:
        raise ServerError(f"the server did not write to its disk within {DURABLE_S:g} s")
    return True
