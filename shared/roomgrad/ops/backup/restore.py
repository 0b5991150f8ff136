"""A file into a run: all of it or nothing.

The file is read to its end before the first write. Then its keys are written under names that
expire, beside the run, and one transaction gives them their own: nobody sees half a run, and who is
killed meanwhile leaves nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import redis

from roomgrad.errors import RoomgradError, ServerError, SettingsError
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.ops.backup.archive import About, Reader, Sums, named
from roomgrad.ops.backup.connection import plain
from roomgrad.ops.backup.records import ALIVE, RESTORING, Extent, Head
from roomgrad.ops.backup.renaming import renamed

EXPIRE_S = 24 * 3600  # what a killed restore leaves
BATCH_BYTES, BATCH = 4 * 2**20, 500


@dataclass(frozen=True)
class Restored:
    """What a restore has done."""

    run: str
    about: About
    sums: Sums
    seconds: float


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file. Raises SettingsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from error


def restore(client: redis.Redis, file: IO[bytes], name: str, run: str, *, fresh: bool) -> Restored:
    """Puts the run of a file, named `name`, onto a server; as `run`, or by its own name if empty.

    Raises FormatError where the file is wrong, RoomgradError where the run is there already. Then
    nothing is changed.
    """
    began = time.monotonic()
    with named(name):
        reader = Reader(file)
        about = reader.about()
        place = Place(client, Names(run or about.run), fresh=fresh)
        old, new = Names(about.run).prefix().encode(), place.names.prefix().encode()
        for head, items in reader.read():  # is all of it well?
            for _ in renamed(head, items, old, new):
                pass
        place.look()
        with place.cleaned():
            for head, items in reader.read():
                place.write(head, renamed(head, items, old, new))
            place.take()
    return Restored(place.names.run, about, reader.sums, time.monotonic() - began)


class Place:
    """Where a run is to stand, and its keys until they stand there."""

    def __init__(self, client: redis.Redis, names: Names, *, fresh: bool) -> None:
        self._client, self.names, self._fresh = client, names, fresh
        self._token = new_id()[:12]
        self._staged: list[Head] = []

    def look(self) -> list[bytes]:
        """The keys that have to go. Raises RoomgradError where they may not."""
        prefix = self.names.prefix().encode()
        found = [key.removeprefix(prefix) for key in self._scanned()]
        found = [key for key in found if not key.startswith(RESTORING)]
        run = self.names.run
        if any(key.startswith(ALIVE) for key in found):
            raise RoomgradError(
                f"components of run {run} are at work: stop them first (roomgrad down, or docker "
                f"compose stop), or restore as another run by --run"
            )
        if found and not self._fresh:
            raise RoomgradError(
                f"run {run} is on this server already: restore as another run by --run, or replace "
                f"it by --fresh"
            )
        return [prefix + key for key in found]

    def _scanned(self) -> list[bytes]:
        return list(self._client.scan_iter(match=self.names.everything(), count=1000))

    def _name(self, number: int) -> str:
        return self.names.restoring(self._token, number)

    @contextlib.contextmanager
    def cleaned(self) -> Iterator[None]:
        """What is not in its place at the end is deleted; if the server is away it expires."""
        try:
            yield
        finally:
            with contextlib.suppress(redis.RedisError):
                for number in range(len(self._staged)):
                    self._client.unlink(self._name(number))

    def write(self, head: Head, items: Iterator[list[Any]]) -> None:
        """Writes a key under a name that expires."""
        key = self._name(len(self._staged))
        self._staged.append(head)
        batch = Batch(plain(self._client))
        if head.stream is not None:
            _write_stream(batch, key, head, head.stream, items)
        else:
            for item in items:
                batch.add(*_command(head.kind, key, item))
        batch.add("EXPIRE", key, EXPIRE_S)
        batch.flush()

    def take(self) -> None:
        """Gives all keys their names, in one transaction that stands only if nobody was faster."""
        prefix = self.names.prefix().encode()
        with self._client.pipeline(transaction=True) as together:
            wanted = (prefix + each.key for each in self._staged)
            together.watch(self.names.run_info(), *wanted)  # type: ignore[no-untyped-call]
            going = self.look()
            together.multi()
            if going:
                together.unlink(*going)
            for number, head in enumerate(self._staged):
                together.rename(self._name(number), prefix + head.key)
                if head.expires_ms is None:
                    together.persist(prefix + head.key)
                else:
                    together.pexpireat(prefix + head.key, head.expires_ms)
            try:
                together.execute()
            except redis.WatchError as error:
                raise ServerError(
                    f"somebody began run {self.names.run} meanwhile; nothing was restored"
                ) from error


class Batch:
    """Commands that go to the server together."""

    def __init__(self, client: redis.Redis) -> None:
        self._together = client.pipeline(transaction=False)
        self._bytes = 0

    def add(self, *words: str | bytes | int) -> None:
        """One more. Raises ServerError where the server refuses one of those before it."""
        self._together.execute_command(*words)  # type: ignore[no-untyped-call]
        self._bytes += sum(len(word) for word in words if not isinstance(word, int))
        if self._bytes >= BATCH_BYTES or len(self._together) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Sends what there is. Raises ServerError with what the server says first."""
        for answer in self._together.execute(raise_on_error=False):
            if isinstance(answer, redis.exceptions.NoPermissionError):
                raise answer
            if isinstance(answer, Exception):
                raise ServerError(f"the server refuses: {answer}; nothing was restored")
        self._bytes = 0


def _command(kind: str, key: str, item: list[Any]) -> list[Any]:
    if kind == "hash":
        return ["HSET", key, *item]
    if kind == "zset":
        return ["ZADD", key, item[1], item[0]]
    return ["SET", key, *item]


def _write_stream(
    batch: Batch, key: str, head: Head, about: Extent, items: Iterator[list[Any]]
) -> None:
    """Entries, what the stream knows of itself, groups, and what is in their hands."""
    entries = head.items - sum(group.pending for group in about.groups)
    for item in islice(items, entries):
        batch.add("XADD", key, *item)
    if not entries:  # a stream may be empty
        batch.add("XGROUP", "CREATE", key, "none", "0", "MKSTREAM")
        batch.add("XGROUP", "DESTROY", key, "none")
    known = ("ENTRIESADDED", about.added, "MAXDELETEDID", about.deleted)
    batch.add("XSETID", key, about.last, *known)
    for group in about.groups:
        read = () if group.read is None else ("ENTRIESREAD", group.read)
        batch.add("XGROUP", "CREATE", key, group.name, group.last, *read)
        for entry, consumer, at_ms, times in islice(items, group.pending):
            how = ("TIME", at_ms, "RETRYCOUNT", times, "FORCE", "JUSTID")
            batch.add("XCLAIM", key, group.name, consumer, 0, entry, *how)
    for _ in items:  # there is none; who reads the file is done with this key
        raise AssertionError(f"{head.key!r} has more items than it says")
