"""Entries of a stream, read before the snapshot is taken, because entries never change.

The transaction of a snapshot then reads only the newest entries. Measured with 100 MB of entries of
1 to 64 KB on Valkey 9, it holds the server for 3 ms; without prefetching, for 75 ms.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from roomgrad.ops.backup.archive import line
from roomgrad.ops.backup.records import EntryID, encoded, parse_id

MAX_ENTRIES = 1000  # per request
REQUEST_BYTES = 4 * 2**20  # about as many bytes per request


class PrefetchedEntries:
    """The entries of one stream so far, as lines in an unnamed temporary file."""

    def __init__(self, key: bytes, folder: Path) -> None:
        self._key = key
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by close()
        self.newest = "0-0"

    def catch_up(self, client: redis.Redis) -> None:
        """Read the entries that were added since the last call."""
        top: Any = client.xrevrange(self._key, count=1)
        count = 1
        while top and parse_id(self.newest) < parse_id(top[0][0].decode()):
            entries: Any = client.xrange(self._key, f"({self.newest}", top[0][0], count)
            if not entries:
                return
            size = self.add(entries) / len(entries)
            count = max(1, min(MAX_ENTRIES, 2 * len(entries), int(REQUEST_BYTES / size)))

    def add(self, entries: list[Any]) -> int:
        """Append entries as the server returns them, and return their size in bytes."""
        size = 0
        for entry, parts in entries:
            self.newest = entry.decode()
            size += self._file.write(line([self.newest, *map(encoded, parts)]))
        return size

    def clear(self) -> None:
        """Forget all entries: some of them were deleted in the middle of the stream."""
        self._file.seek(0)
        self._file.truncate()
        self.newest = "0-0"

    def count(self, first: str) -> int:
        """Return the number of entries from ID `first` on."""
        return sum(1 for _ in self.lines(first))

    def lines(self, first: str) -> Iterator[bytes]:
        """Yield the entries from ID `first` on; older ones were trimmed meanwhile."""
        oldest = parse_id(first)
        self._file.seek(0)
        for each in self._file:
            if _id_of(each) >= oldest:
                yield each
        self._file.seek(0, 2)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def _id_of(entry: bytes) -> EntryID:
    """Return the ID of a line without parsing the rest, which is long."""
    milliseconds, _, number = entry[2 : entry.index(b'"', 2)].partition(b"-")
    return int(milliseconds), int(number)
