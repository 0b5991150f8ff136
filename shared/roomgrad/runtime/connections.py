"""The two connections of a loop: one that waits for the next message, and one beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from roomgrad.clock import ServerClock
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import ConnectionLost, MessageError
from roomgrad.redis.cluster import REDIRECTS
from roomgrad.redis.connection import Command, Connection, Reply, ReplyError
from roomgrad.redis.sentinels import Address

# Errors after which the connection is closed and opened again.
NOT_NOW = ("READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "BUSY", *REDIRECTS)


class Connections:
    """Sends commits without waiting for their answers, and the next blocking read with the last.

    Whatever is asked meanwhile is answered behind them, so that it sees what they have written.
    While a read is outstanding its connection cannot answer anything else, so that every other
    command goes over the second connection.
    """

    def __init__(self, open_connection: Callable[[str], Connection], clock: ServerClock) -> None:
        self._reader = open_connection("loop")
        self._side = open_connection("side")
        self.reading = False
        self._unanswered = 0  # commits whose answers are still to be read
        self._answers: deque[Reply] = deque()  # those that were read before something else
        self.time = clock.time
        self._clock = clock

    def connect(self) -> None:
        """Open both, new or closed, to one server; load the commit script and read the clock."""
        self._reader.connect()
        self._side.connect(self._reader.at)
        self.load_script()
        self._clock.read(self._side.call)

    @property
    def at(self) -> Address | None:
        """Under Sentinel or in a cluster: the server to which both are connected."""
        return self._reader.at

    def close(self) -> None:
        """Close both; an outstanding read and the answers to commits are forgotten."""
        self._reader.close()
        self._side.close()
        self.reading = False
        self._unanswered = 0
        self._answers.clear()

    def load_script(self) -> None:
        """Load the commit script into the server."""
        self.aside([b"SCRIPT", b"LOAD", SCRIPT])

    def read(self, commands: Sequence[Command]) -> None:
        """Send the next blocking read, and the commands that follow it."""
        self._reader.send(*commands)
        self.reading = True

    def answers(self, count: int, due_s: float) -> list[Reply]:
        """Return the replies to `count` commands; the first may take `due_s` seconds."""
        replies = [self._reader.read(due_s)]
        replies += [self._reader.read() for _ in range(count - 1)]
        self.reading = False
        return replies

    def send(self, commit: Commit, then_read: Sequence[Command] = ()) -> None:
        """Send a commit, and the next read with it, while no read is outstanding.

        `answer` returns the server's reply.
        """
        commit.publish_command = self._reader.publish_command
        self._reader.send(commit.command(), *then_read)
        self._unanswered += 1
        self.reading = bool(then_read)

    def answer(self) -> Reply:
        """Return the reply to the first commit of those that were sent and not answered yet."""
        if self._answers:
            return self._answers.popleft()
        self._unanswered -= 1
        return self._reader.read()

    def commit(self, commit: Commit, then_read: Sequence[Command] = ()) -> Reply:
        """Send a commit, and the next read with it; return the server's reply to the commit."""
        if self.reading:
            commit.publish_command = self._side.publish_command
            return self._side.call(commit.command())
        self.send(commit, then_read)
        self._read_answers()
        return self._answers.pop()

    def call(self, command: Command) -> Any:
        """Send one command and return its reply. Raises ReplyError."""
        if self.reading:
            return self.aside(command)
        self._reader.send(command)
        self._read_answers()
        return _checked(self._reader.read())

    def _read_answers(self) -> None:
        while self._unanswered:
            self._unanswered -= 1
            self._answers.append(self._reader.read())

    def aside(self, command: Command) -> Any:
        """Send one command on the connection that never blocks. Raises ReplyError."""
        return _checked(self._side.call(command))

    def hget(self, key: str, field: bytes) -> bytes | None:
        """Return one field of a hash."""
        value: bytes | None = self.call([b"HGET", key.encode(), field])
        return value

    def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
        """Return some fields of a hash."""
        values: list[bytes | None] = self.call([b"HMGET", key.encode(), *fields])
        return values

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        """Return a whole hash."""
        flat = self.call([b"HGETALL", key.encode()])
        return dict(zip(flat[::2], flat[1::2], strict=True))


def _checked(reply: Reply) -> Any:
    if isinstance(reply, ReplyError):
        raise reply
    return reply


def outcome(reply: Reply) -> str:
    """Return what became of a commit: ok, gone, stale, full, noscript, or why it was refused.

    Raises MessageError if no server would ever accept the commit, and ConnectionLost if this
    connection cannot be used any more.
    """
    if isinstance(reply, ReplyError):
        text = str(reply)
        if text.startswith("NOSCRIPT"):
            return "noscript"
        if text.startswith(NOT_NOW):
            raise ConnectionLost(text)
        return text
    kind: str = reply[0].decode()
    if kind == "wrong":
        raise MessageError(f"cannot be committed: {reply[1].decode(errors='replace')}")
    return reply[1].decode(errors="replace") if kind == "refused" else kind
