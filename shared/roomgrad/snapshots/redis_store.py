"""Snapshots in Redis, in pieces that expire until the model points to them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import hiredis
import redis

from roomgrad.errors import SnapshotError
from roomgrad.messages import new_id
from roomgrad.snapshots import owner as owners
from roomgrad.snapshots import pieces
from roomgrad.snapshots.owner import IN_REDIS, Owner

EXPIRE_S = 3600  # after which the pieces of a writer that died are gone
_BATCH = 64  # keys that one command deletes

Call = Callable[..., Any]
"""Executes one command of bytes and memoryviews; returns the reply, an error of the server, too."""


class RedisStore:
    """The pieces of a model's snapshots in Redis.

    `write` stores pieces that expire in an hour. The commit that points to the snapshot stages
    PERSIST for each of its `keys`, and the one that drops the pointer UNLINK, so that a piece
    without expiry is one that a pointer names. A lost connection raises what `call` raises.
    """

    url = "redis:"

    def __init__(self, call: Call, owner: Owner) -> None:
        self._call = call
        self._owner = owner

    def write(self, token: str, content: memoryview) -> tuple[str, str]:
        """Store the state of a version; return its place, and its SHA-256.

        content: contiguous; it is sent in pieces, and not copied as a whole.

        Raises SnapshotError, with nothing stored, if the server refuses: its memory is full.
        """
        name = owners.unique(token)
        numbers = itertools.count()
        expire = b"%d" % EXPIRE_S
        try:
            sha256 = pieces.written(
                content,
                lambda piece: self._do(
                    b"SET", self._key(name, next(numbers)), piece, b"EX", expire
                ),
            )
        except BaseException:
            with contextlib.suppress(Exception):  # they expire anyway
                self.delete(f"{IN_REDIS}{name}")
            raise
        return f"{IN_REDIS}{name}", sha256

    def keys(self, place: str, size: int) -> list[str]:
        """Return the keys that the commit which points to a snapshot has to PERSIST."""
        name = owners.name_of(place)
        return [self._key(name, number).decode() for number in range(pieces.count(size))]

    def read(self, place: str, size: int, sha256: str) -> bytearray:
        """Return the bytes of a snapshot. Raises SnapshotError if they are not what was written."""
        name = owners.name_of(place)
        numbers = itertools.count()

        def read_into(buffer: memoryview) -> int:
            piece = self._do(b"GET", self._key(name, next(numbers))) or b""
            if len(piece) > len(buffer):
                raise SnapshotError(f"{place} was changed while it was read")
            buffer[: len(piece)] = piece
            return len(piece)

        return pieces.read(place, size, sha256, self._size(place, name), read_into)

    def delete(self, place: str) -> None:
        """Delete the pieces of a snapshot, if there are any."""
        name = owners.name_of(place)
        for start in itertools.count(0, _BATCH):
            keys = [self._key(name, number) for number in range(start, start + _BATCH)]
            if not self._do(b"UNLINK", *keys):
                return

    def places(self, older_s: float = 0.0) -> list[str]:
        """Return the places of all snapshots, or of those that do not expire within an hour.

        older_s: 0 for all.
        """
        found = set()
        for key in self._stored():
            name, _, _ = key.removeprefix(self._pattern().partition("*")[0]).rpartition(":")
            if not older_s or self._do(b"PTTL", key.encode()) == -1:
                found.add(f"{IN_REDIS}{name}")
        return sorted(found)

    def delete_all(self) -> None:
        """Delete every snapshot of the model."""
        for place in self.places():
            self.delete(place)

    def check(self) -> None:
        """Raise SnapshotError if the user of this connection may not write snapshots."""
        self.delete(f"{IN_REDIS}{new_id()}")

    def _size(self, place: str, name: str) -> int:
        """Return how many bytes are stored, up to the first piece that is missing."""
        total = 0
        for number in itertools.count():
            size = self._do(b"STRLEN", self._key(name, number))
            if not size:
                break
            total += size
        if not total:
            raise pieces.missing(place)
        return total

    def _stored(self) -> list[str]:
        """Return the keys of all pieces."""
        found: list[str] = []
        cursor = b"0"
        while True:
            cursor, keys = self._do(
                b"SCAN", cursor, b"MATCH", self._pattern().encode(), b"COUNT", b"1000"
            )
            found += [key.decode() for key in keys]
            if cursor == b"0":
                return found

    def _pattern(self) -> str:
        return self._owner.names.snapshot_piece(self._owner.component, "*", "*")

    def _key(self, name: str, number: int) -> bytes:
        return self._owner.names.snapshot_piece(self._owner.component, name, number).encode()

    def _do(self, *words: bytes | memoryview) -> Any:
        return execute(self._call, *words)


def execute(call: Call, *words: bytes | memoryview) -> Any:
    """Return the reply to a command. Raises SnapshotError if the server refuses it."""
    try:
        reply = call(*words)
    except (redis.ResponseError, hiredis.ReplyError) as error:
        raise _refusal(error) from error
    if isinstance(reply, Exception):
        raise _refusal(reply) from reply
    return reply


def _refusal(error: Exception) -> SnapshotError:
    if isinstance(error, redis.exceptions.OutOfMemoryError) or str(error).startswith("OOM"):
        return SnapshotError(
            "the snapshot does not fit into the server, whose memory is full: raise its maxmemory, "
            "or set ROOMGRAD_SNAPSHOT_REDIS_MIB=0, so that snapshots are stored in files"
        )
    return SnapshotError(
        f"the server refuses to store or read snapshots ({error}): a user of the server needs the "
        f"rules that `roomgrad acl` prints"
    )
