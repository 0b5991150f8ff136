"""The file: lines of JSON, compressed by gzip. `zcat FILE | head -1` says what it is.

The first line says of which run it is, and when; then come the keys, each with its items behind
it; the last line counts all and holds the SHA-256 of the lines before it. There are no names of
files in it and nothing that is run. Nothing that it says is believed before it has been read to its
end, and no more of it is in memory than one line.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any

import orjson

from roomgrad.errors import FormatError, format_value
from roomgrad.ops.backup.records import Checked, Head, head

FORMAT = 1
MOST_LINE = 720 * 2**20  # what a commit may write at most, 512 MiB, in base64
LEVEL = 1  # weights hardly become smaller, and the rest does at any level


@dataclass(frozen=True)
class About:
    """The first line."""

    run: str
    server: str
    roomgrad: str
    at_ms: int


@dataclass(frozen=True)
class Sums:
    """The last line: what there is of what."""

    keys: int
    items: int
    sha256: str


class Writer:
    """Writes an archive, line by line."""

    def __init__(self, file: IO[bytes], about: About) -> None:
        self._zip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=LEVEL, filename="")
        self._sum = hashlib.sha256()
        self._keys = self._items = self.bytes = 0
        self._write(line({"roomgrad_backup": FORMAT, **asdict(about)}))

    def key(self, head: Head, items: Iterable[bytes]) -> None:
        """A key, and its items as lines."""
        self._write(line(head.written()))
        count = 0
        for item in items:
            self._write(item)
            count += 1
        assert count == head.items, f"{head.key!r} has {count} items, expected {head.items}"
        self._keys += 1
        self._items += count

    def finish(self) -> Sums:
        """The last line."""
        sums = Sums(self._keys, self._items, self._sum.hexdigest())
        self._write(line({"end": True, **asdict(sums)}))
        self._zip.close()
        return sums

    def _write(self, data: bytes) -> None:
        if len(data) > MOST_LINE:
            raise FormatError(f"an item of {len(data):,} bytes is more than a backup holds")
        self._sum.update(data)
        self._zip.write(data)
        self.bytes += len(data)


def line(value: Any) -> bytes:
    """A value as a line."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """What is wrong with a file is told with its name."""
    try:
        yield
    except FormatError as error:
        raise FormatError(
            f"{name} is no whole backup: {str(error)[:300]}; "
            "nothing was restored: take another file"
        ) from error


class Reader:
    """Reads an archive, and believes nothing of it. Raises FormatError with what is wrong."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sums = Sums(0, 0, "")

    def about(self) -> About:
        """The first line."""
        return _about(next(self._lines(hashlib.sha256())))

    def read(self) -> Iterator[tuple[Head, Iterator[list[Any]]]]:
        """Each key with its items, to be read before the next key. At the end `sums` are known."""
        total = hashlib.sha256()
        lines = self._lines(total)
        _about(next(lines))
        seen: set[bytes] = set()
        items = 0
        while True:
            before = total.hexdigest()
            value = next(lines)
            if _is_end(value):
                break
            key = head(value)
            if key.key in seen:
                raise FormatError(f"the key {format_value(key.key)} stands in it twice")
            seen.add(key.key)
            items += key.items
            yield key, Checked(key).items(lines)
        self.sums = Sums(len(seen), items, before)
        if {"end": True, **asdict(self.sums)} != value:
            raise FormatError("its sums do not fit what stands in it")
        if next(lines, None) is not None:
            raise FormatError("something stands behind its end")

    def _lines(self, total: Any) -> Iterator[Any]:
        """Each line as JSON; its bytes are added to the sum."""
        self._file.seek(0)
        value = None
        try:
            with gzip.GzipFile(fileobj=self._file, mode="rb") as unzipped:
                while data := unzipped.readline(MOST_LINE + 1):
                    if len(data) > MOST_LINE:
                        raise FormatError(f"a line is longer than {MOST_LINE:,} bytes")
                    total.update(data)
                    value = orjson.loads(data)
                    yield value
        except orjson.JSONDecodeError as error:
            raise FormatError(f"a line of it is no JSON ({error})") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(str(error)) from error
        if not _is_end(value):
            raise FormatError("its end is missing")


def _is_end(value: Any) -> bool:
    return isinstance(value, dict) and value.get("end") is True


def _about(value: Any) -> About:
    if not isinstance(value, dict) or "roomgrad_backup" not in value:
        raise FormatError("its first line is that of something else")
    version = value["roomgrad_backup"]
    if version != FORMAT:
        raise FormatError(
            f"its format is {format_value(version)}, and this roomgrad reads {FORMAT} "
            f"(it was written by roomgrad {format_value(value.get('roomgrad'))})"
        )
    texts = [value.get(name) for name in ("run", "server", "roomgrad")]
    at_ms = value.get("at_ms")
    if not all(isinstance(each, str) for each in texts) or not texts[0] or type(at_ms) is not int:
        raise FormatError("its first line does not say of which run it is, and when")
    run, server, roomgrad = map(str, texts)
    return About(run, server, roomgrad, at_ms)
