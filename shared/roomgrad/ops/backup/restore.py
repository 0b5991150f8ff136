"""Restore a run from a file: all of it or nothing.

The file is read to its end before the first write. Its keys are then written under temporary names
that expire, and one transaction renames them all: no client sees half a run, and a restore that is
killed leaves only keys that expire.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO

import redis
import structlog

from roomgrad.errors import RoomgradError, ServerError, SettingsError
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.ops.backup.archive import Origin, Reader, Totals, naming
from roomgrad.ops.backup.records import (
    ALIVE,
    RESTORING,
    SNAPSHOT,
    Item,
    KeyHeader,
    StreamState,
)
from roomgrad.ops.backup.renaming import renamed
from roomgrad.ops.backup.restored_snapshots import OwnStores, Put, RestoredSnapshots, put_nowhere
from roomgrad.ops.backup.snapshot import raw_replies
from roomgrad.runtime.runs import owners
from roomgrad.settings import RuntimeSettings
from roomgrad.snapshots.deletion import Files

log = structlog.get_logger("roomgrad")

EXPIRE_S = 24 * 3600  # of the temporary keys that a killed restore leaves
BATCH_BYTES, BATCH_COMMANDS = 4 * 2**20, 500


@dataclass(frozen=True)
class Restored:
    """The result of `restore`."""

    run: str
    origin: Origin
    totals: Totals
    seconds: float


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read. Raises SettingsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}") from error


def restore(
    client: redis.Redis,
    file: IO[bytes],
    name: str,
    run: str,
    *,
    fresh: bool,
    settings: RuntimeSettings | None = None,
) -> Restored:
    """Restore the run in a file, with a token of its own.

    name: of the file, for errors. run: the run's new name; empty keeps the old one. fresh: replace
    a run of this name. settings: where snapshots of models are stored; those of a component without
    any flag by default.

    Raises FormatError if the file is not valid, SnapshotError if a snapshot cannot be stored,
    RoomgradError if the run exists or is running. Nothing is changed then.
    """
    began = time.monotonic()
    with naming(name):
        reader = Reader(file)
        origin = reader.origin()
        target = Target(client, Names(run or origin.run), fresh=fresh)
        change = _Change(origin.run, target)
        for _, items in change.read(reader, put_nowhere):  # validate before the first write
            for _ in items:
                pass
        target.check()
        replaced = [Files(client.execute_command, each) for each in owners(client, target.names)]
        stores = OwnStores(target.names, change.token, settings or RuntimeSettings(), target.write)
        with target.cleanup(), stores.cleanup():
            for header, items in change.read(reader, stores.put):
                target.write(header, items)
            target.rename()
        for reason in chain.from_iterable(each.delete() for each in replaced):
            log.warning("a snapshot of the replaced run was not deleted", reason=reason)
    return Restored(target.names.run, origin, reader.totals, time.monotonic() - began)


class _Change:
    """What is different in the restored run: its name, its token, and where its snapshots are."""

    def __init__(self, run: str, target: Target) -> None:
        self._old, self._new = Names(run).prefix().encode(), target.names.prefix().encode()
        self.token = new_id()

    def read(self, reader: Reader, put: Put) -> Iterator[tuple[KeyHeader, Iterator[Item]]]:
        """Yield each key with its items as they are restored, and have snapshots stored."""
        snapshots = RestoredSnapshots(put)
        for header, items in reader.read():
            if header.kind == SNAPSHOT:
                snapshots.store(header, items)
            else:
                found = renamed(header, items, self._old, self._new)
                yield header, snapshots.change(header, self._own_token(header, found))

    def _own_token(self, header: KeyHeader, items: Iterator[Item]) -> Iterator[Item]:
        """Change the token, by which snapshots of the run are told from those of the one saved."""
        if header.key != b"run" or header.kind != "hash":
            return items
        own = [b"token", self.token.encode()]
        return (own if item[0] == b"token" else item for item in items)


class Target:
    """The run to restore, whose keys have temporary names until `rename`."""

    def __init__(self, client: redis.Redis, names: Names, *, fresh: bool) -> None:
        self._client, self.names, self._fresh = client, names, fresh
        self._token = new_id()[:12]
        self._written: list[KeyHeader] = []

    def check(self) -> list[bytes]:
        """Return the keys to delete. Raises RoomgradError if the run may not be replaced."""
        prefix, run = self.names.prefix().encode(), self.names.run
        keys = list(self._client.scan_iter(match=self.names.everything(), count=1000))
        found = [key for key in keys if not key.startswith(prefix + RESTORING)]
        if any(key.startswith(prefix + ALIVE) for key in found):
            raise RoomgradError(
                f"components of run {run} are running: stop them first (roomgrad down, or docker "
                f"compose stop), or restore as another run by --run"
            )
        if found and not self._fresh:
            raise RoomgradError(
                f"run {run} exists on this server: restore as another run by --run, or replace it "
                f"by --fresh"
            )
        return found

    def _temporary(self, number: int) -> str:
        return self.names.restoring(self._token, number)

    @contextlib.contextmanager
    def cleanup(self) -> Iterator[None]:
        """Delete what still has a temporary name at the end; if the server is away, it expires."""
        try:
            yield
        finally:
            with contextlib.suppress(redis.RedisError):
                for number in range(len(self._written)):
                    self._client.unlink(self._temporary(number))

    def write(self, header: KeyHeader, items: Iterator[Item]) -> None:
        """Write a key under a temporary name that expires."""
        key = self._temporary(len(self._written))
        self._written.append(header)
        batch = Batch(raw_replies(self._client))
        if header.stream is not None:
            _write_stream(batch, key, header, header.stream, items)
        else:
            for item in items:
                batch.add(*_command(header.kind, key, item))
        batch.add("EXPIRE", key, EXPIRE_S)
        batch.flush()

    def rename(self) -> None:
        """Give all keys their names in one transaction, unless another client creates the run."""
        prefix = self.names.prefix().encode()
        with self._client.pipeline(transaction=True) as pipe:
            keys = (prefix + each.key for each in self._written)
            pipe.watch(self.names.run_info(), *keys)  # type: ignore[no-untyped-call]
            replaced = self.check()
            pipe.multi()
            if replaced:
                pipe.unlink(*replaced)
            for number, header in enumerate(self._written):
                pipe.rename(self._temporary(number), prefix + header.key)
                if header.expires_ms is None:
                    pipe.persist(prefix + header.key)
                else:
                    pipe.pexpireat(prefix + header.key, header.expires_ms)
            try:
                pipe.execute()
            except redis.WatchError as error:
                raise ServerError(
                    f"run {self.names.run} was started meanwhile; nothing was restored"
                ) from error


class Batch:
    """Commands that are sent to the server together."""

    def __init__(self, client: redis.Redis) -> None:
        self._pipe = client.pipeline(transaction=False)
        self._bytes = 0

    def add(self, *words: str | bytes | int) -> None:
        """Add a command. Raises ServerError if the server refuses one of those before it."""
        self._pipe.execute_command(*words)  # type: ignore[no-untyped-call]
        self._bytes += sum(len(word) for word in words if not isinstance(word, int))
        if self._bytes >= BATCH_BYTES or len(self._pipe) >= BATCH_COMMANDS:
            self.flush()

    def flush(self) -> None:
        """Send the commands. Raises ServerError with the first refusal."""
        for reply in self._pipe.execute(raise_on_error=False):
            if isinstance(reply, redis.exceptions.NoPermissionError):
                raise reply
            if isinstance(reply, Exception):
                raise ServerError(f"the server refuses: {reply}; nothing was restored")
        self._bytes = 0


def _command(kind: str, key: str, item: Item) -> Item:
    if kind == "hash":
        return ["HSET", key, *item]
    if kind == "zset":
        return ["ZADD", key, item[1], item[0]]
    return ["SET", key, *item]


def _write_stream(
    batch: Batch, key: str, header: KeyHeader, state: StreamState, items: Iterator[Item]
) -> None:
    """Write entries, the stream's own state, groups, and their pending entries."""
    for item in islice(items, header.entries):
        batch.add("XADD", key, *item)
    if not header.entries:  # a stream may be empty
        batch.add("XGROUP", "CREATE", key, "none", "0", "MKSTREAM")
        batch.add("XGROUP", "DESTROY", key, "none")
    counts = ("ENTRIESADDED", state.added, "MAXDELETEDID", state.deleted)
    batch.add("XSETID", key, state.last, *counts)
    for group in state.groups:
        read = () if group.read is None else ("ENTRIESREAD", group.read)
        batch.add("XGROUP", "CREATE", key, group.name, group.last, *read)
        for entry, consumer, at_ms, deliveries in islice(items, group.pending):
            options = ("TIME", at_ms, "RETRYCOUNT", deliveries, "FORCE", "JUSTID")
            batch.add("XCLAIM", key, group.name, consumer, 0, entry, *options)
    for _ in items:  # exhausts the generator, so that the reader goes on with the next key
        raise AssertionError(f"{header.key!r} has more items than it says")
