"""Streams are read before the moment of the backup, since their entries never change."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from roomgrad.ops.backup.archive import line
from roomgrad.ops.backup.records import Entry, entry, text

MOST_ENTRIES = 1000  # that are asked for at once
BYTES = 4 * 2**20  # and about how many bytes


class Ahead:
    """The entries of one stream so far, as lines in a file without a name.

    At the moment of the backup only those are read that came since. Those that were trimmed
    meanwhile are left out then.
    """

    def __init__(self, key: bytes, folder: Path) -> None:
        self.key = key
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by close()
        self.newest = "0-0"

    def catch_up(self, client: redis.Redis) -> None:
        """Reads what stands in the stream now and was not read yet."""
        top: Any = client.xrevrange(self.key, count=1)
        count = 1
        while top and entry(self.newest) < entry(top[0][0].decode()):
            entries: Any = client.xrange(self.key, f"({self.newest}", top[0][0], count)
            if not entries:
                return
            size = self.add(entries) / len(entries)
            count = max(1, min(MOST_ENTRIES, 2 * len(entries), int(BYTES / size)))

    def add(self, entries: list[Any]) -> int:
        """Takes on entries as the server answers them; answers how many bytes they are."""
        size = 0
        for name, parts in entries:
            self.newest = name.decode()
            size += self._file.write(line([self.newest, *map(text, parts)]))
        return size

    def begin_again(self) -> None:
        """What was read is of no use: somebody deleted entries in the middle."""
        self._file.seek(0)
        self._file.truncate()
        self.newest = "0-0"

    def count(self, first: str) -> int:
        """How many entries there are from this one on."""
        return sum(1 for _ in self.lines(first))

    def lines(self, first: str) -> Iterator[bytes]:
        """The entries from this one on."""
        oldest = entry(first)
        self._file.seek(0)
        for each in self._file:
            if _of(each) >= oldest:
                yield each
        self._file.seek(0, 2)

    def close(self) -> None:
        """Gives back its room on the disk."""
        self._file.close()


def _of(written: bytes) -> Entry:
    """The ID of a line, which is long."""
    milliseconds, _, number = written[2 : written.index(b'"', 2)].partition(b"-")
    return int(milliseconds), int(number)
