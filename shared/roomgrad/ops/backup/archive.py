"""The backup file: lines of JSON, compressed by gzip. `zcat FILE | head -1` describes it.

The first line names the run and the time; each key follows with its items; the last line holds the
totals and the SHA-256 of the lines before it. The file contains no file names and no code. The
reader trusts nothing before it has read the file to its end, and holds one line in memory.
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
from roomgrad.ops.backup.records import Item, KeyHeader, parse_header, parse_items

FORMAT = 2  # 1 had no snapshots of models
READS = (1, FORMAT)
MAX_LINE_BYTES = 720 * 2**20  # the most that one commit may write, 512 MiB, in base64
COMPRESSION_LEVEL = 1  # weights hardly shrink, and the rest shrinks at any level


@dataclass(frozen=True)
class Origin:
    """The first line: which run was saved, from which server, by which release, and when."""

    run: str
    server: str
    roomgrad: str
    at_ms: int


@dataclass(frozen=True)
class Totals:
    """The last line."""

    keys: int
    items: int
    sha256: str


class Writer:
    """Write a backup line by line."""

    def __init__(self, file: IO[bytes], origin: Origin) -> None:
        level = COMPRESSION_LEVEL
        self._zip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=level, filename="")
        self._hash = hashlib.sha256()
        self._keys = self._items = self.bytes = 0
        self._write(line({"roomgrad_backup": FORMAT, **asdict(origin)}))

    def key(self, header: KeyHeader, items: Iterable[bytes]) -> None:
        """Write a key and its items, which are lines already."""
        self._write(line(header.as_json()))
        count = 0
        for item in items:
            self._write(item)
            count += 1
        assert count == header.items, f"{header.key!r} has {count} items, expected {header.items}"
        self._keys += 1
        self._items += count

    def finish(self) -> Totals:
        """Write the last line."""
        totals = Totals(self._keys, self._items, self._hash.hexdigest())
        self._write(line({"end": True, **asdict(totals)}))
        self._zip.close()
        return totals

    def _write(self, data: bytes) -> None:
        if len(data) > MAX_LINE_BYTES:
            raise FormatError(f"a backup cannot hold an item of {len(data):,} bytes")
        self._hash.update(data)
        self._zip.write(data)
        self.bytes += len(data)


def line(value: Any) -> bytes:
    """Return a value as a line of JSON."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Add the name of the file to each FormatError."""
    try:
        yield
    except FormatError as error:
        raise FormatError(
            f"{name} is not a complete backup: {str(error)[:300]}; "
            "nothing was restored: use another file"
        ) from error


class Reader:
    """Read an untrusted backup. Its methods raise FormatError if the file is not valid."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.totals = Totals(0, 0, "")

    def origin(self) -> Origin:
        """Return the first line."""
        return _parse_origin(next(self._lines(hashlib.sha256())))

    def read(self) -> Iterator[tuple[KeyHeader, Iterator[Item]]]:
        """Yield each key with its items, which must be read before the next key.

        At the end, `totals` is set.
        """
        digest = hashlib.sha256()
        lines = self._lines(digest)
        _parse_origin(next(lines))
        seen: set[bytes] = set()
        items = 0
        while True:
            sha256 = digest.hexdigest()
            value = next(lines)
            if _is_end(value):
                break
            header = parse_header(value)
            if header.key in seen:
                raise FormatError(f"the key {format_value(header.key)} occurs twice")
            seen.add(header.key)
            items += header.items
            yield header, parse_items(header, lines)
        self.totals = Totals(len(seen), items, sha256)
        if {"end": True, **asdict(self.totals)} != value:
            raise FormatError("the totals do not match the content")
        if next(lines, None) is not None:
            raise FormatError("there is data after the last line")

    def _lines(self, digest: Any) -> Iterator[Any]:
        """Yield each line as JSON, and add its bytes to the digest."""
        self._file.seek(0)
        value = None
        try:
            with gzip.GzipFile(fileobj=self._file, mode="rb") as unzipped:
                while data := unzipped.readline(MAX_LINE_BYTES + 1):
                    if len(data) > MAX_LINE_BYTES:
                        raise FormatError(f"a line is longer than {MAX_LINE_BYTES:,} bytes")
                    digest.update(data)
                    value = orjson.loads(data)
                    yield value
        except orjson.JSONDecodeError as error:
            raise FormatError(f"a line is not JSON ({error})") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FormatError(str(error)) from error
        if not _is_end(value):
            raise FormatError("the last line is missing")


def _is_end(value: Any) -> bool:
    return isinstance(value, dict) and value.get("end") is True


def _parse_origin(value: Any) -> Origin:
    if not isinstance(value, dict) or "roomgrad_backup" not in value:
        raise FormatError("the first line is not that of a backup")
    version = value["roomgrad_backup"]
    if version not in READS or type(version) is not int:
        raise FormatError(
            f"it has format {format_value(version)}, and this release reads formats 1 to {FORMAT} "
            f"(it was written by roomgrad {format_value(value.get('roomgrad'))})"
        )
    texts = [value.get(name) for name in ("run", "server", "roomgrad")]
    at_ms = value.get("at_ms")
    if not all(isinstance(each, str) for each in texts) or not texts[0] or type(at_ms) is not int:
        raise FormatError("the first line does not say which run was saved, and when")
    run, server, roomgrad = map(str, texts)
    return Origin(run, server, roomgrad, at_ms)
