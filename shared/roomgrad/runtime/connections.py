"""The connections of a loop: one that waits for the next message, and one beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import ConnectionLost, MessageError
from roomgrad.redis.cluster import ELSEWHERE
from roomgrad.redis.connection import Command, Connection, Reply, ReplyError
from roomgrad.redis.sentinels import Address

# Errors that mean "not now": the connection is given up and made again.
_NOT_NOW = ("READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "BUSY", *ELSEWHERE)


class Connections:
    """Sends a commit and the next blocking read in one go.

    While a read is outstanding, its connection answers nothing else: whatever must be asked then
    goes over the other one.
    """

    def __init__(self, open_wire: Callable[[str], Connection]) -> None:
        self._wire = open_wire("loop")
        self._side = open_wire("side")
        self.reading = False

    def connect(self) -> None:
        """Opens both connections, to one server, and loads the commit script."""
        self._wire.connect()
        self._side.connect(self._wire.at)
        self.reading = False
        self.load_script()

    @property
    def at(self) -> Address | None:
        """Under Sentinel or in a cluster: the server to which both go."""
        return self._wire.at

    def close(self) -> None:
        """Closes both; an outstanding read is forgotten."""
        self._wire.close()
        self._side.close()
        self.reading = False

    def load_script(self) -> None:
        """Gives the server the commit script (again)."""
        self.aside([b"SCRIPT", b"LOAD", SCRIPT])

    def read(self, commands: Sequence[Command]) -> None:
        """Sends the next blocking read and what is to be looked at after it."""
        self._wire.send(*commands)
        self.reading = True

    def answers(self, count: int, due_s: float) -> list[Reply]:
        """The answers to an outstanding read of so many commands; the first may take `due_s`."""
        replies = [self._wire.read(due_s)]
        replies += [self._wire.read() for _ in range(count - 1)]
        self.reading = False
        return replies

    def commit(self, commit: Commit, then_read: Sequence[Command] = ()) -> Reply:
        """The server's answer to a commit; the next read leaves in the same send."""
        commit.ring = self._wire.ring
        if self.reading:
            return self._side.call(commit.command())
        self._wire.send(commit.command(), *then_read)
        self.reading = bool(then_read)
        return self._wire.read()

    def call(self, command: Command) -> Any:
        """One command and its answer. Raises what the server answers as an error."""
        if self.reading:
            return self.aside(command)
        return _checked(self._wire.call(command))

    def aside(self, command: Command) -> Any:
        """The same on the connection that never blocks."""
        return _checked(self._side.call(command))

    def hget(self, key: str, field: bytes) -> bytes | None:
        """One field of a hash."""
        value: bytes | None = self.call([b"HGET", key.encode(), field])
        return value

    def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
        """Some fields of a hash."""
        values: list[bytes | None] = self.call([b"HMGET", key.encode(), *fields])
        return values

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        """A whole hash."""
        flat = self.call([b"HGETALL", key.encode()])
        return dict(zip(flat[::2], flat[1::2], strict=True))


def _checked(reply: Reply) -> Any:
    if isinstance(reply, ReplyError):
        raise reply
    return reply


def outcome(reply: Reply) -> str:
    """What became of a commit: ok, gone, stale, noscript, or why the server refused it.

    Raises MessageError for one that no server would ever take.
    """
    if isinstance(reply, ReplyError):
        text = str(reply)
        if text.startswith("NOSCRIPT"):
            return "noscript"
        if text.startswith(_NOT_NOW):
            raise ConnectionLost(text)
        return text
    kind: str = reply[0].decode()
    if kind == "wrong":
        raise MessageError(f"cannot be committed: {reply[1].decode(errors='replace')}")
    return reply[1].decode(errors="replace") if kind == "refused" else kind
