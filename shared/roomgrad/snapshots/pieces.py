"""The bytes of a snapshot in pieces: written without a copy of the whole, verified when read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from roomgrad.errors import SnapshotError

PIECE_BYTES = 16 * 1024 * 1024


def count(size: int) -> int:
    """Return in how many pieces so many bytes are stored."""
    return -(-size // PIECE_BYTES)


def written(content: memoryview, write: Callable[[memoryview], Any]) -> str:
    """Pass the bytes of a contiguous buffer to `write`, piece by piece; return their SHA-256."""
    digest = hashlib.sha256()
    for piece in _pieces(content.cast("B")):
        digest.update(piece)
        write(piece)
    return digest.hexdigest()


def read(
    place: str, size: int, sha256: str, found: int, read_into: Callable[[memoryview], int]
) -> bytearray:
    """Return the bytes of a snapshot.

    found: how many bytes are stored. read_into: fills the beginning of a buffer with what comes
        next, and returns with how many bytes; 0 at the end.

    Raises SnapshotError if they are not as many, or others than were written.
    """
    _require_size(place, size, found)
    content, digest, at = bytearray(size), hashlib.sha256(), 0
    rest = memoryview(content)
    while at < size and (more := read_into(rest[at : at + PIECE_BYTES])):
        digest.update(rest[at : at + more])
        at += more
    _require_size(place, size, at)
    if digest.hexdigest() != sha256:
        raise SnapshotError(
            f"{place} was changed: its SHA-256 is {digest.hexdigest()}, expected {sha256}"
        )
    return content


def missing(place: str) -> SnapshotError:
    """Return the error to raise if a snapshot is not stored."""
    return SnapshotError(
        f"{place} is missing: it was deleted, or the host that wrote it does not share its store"
    )


def _pieces(content: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def _require_size(place: str, size: int, found: int) -> None:
    if found != size:
        raise SnapshotError(
            f"{place} has {found:,} bytes, expected {size:,}: a part of it is missing, or it was "
            f"changed"
        )
