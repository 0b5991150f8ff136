"""Save a run into a file."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import redis

from roomgrad.errors import FormatError, SettingsError
from roomgrad.files import writing
from roomgrad.names import Names
from roomgrad.ops.backup.archive import Origin, Totals, Writer
from roomgrad.ops.backup.model_snapshots import SnapshotCopies
from roomgrad.ops.backup.snapshot import Snapshotter
from roomgrad.redis.server import check


@dataclass(frozen=True)
class Saved:
    """The result of `save`."""

    origin: Origin
    totals: Totals
    bytes: int  # of the file
    unpacked: int
    snapshot_s: float
    seconds: float
    warnings: tuple[str, ...]
    """Of each snapshot of a model that is missing, or was changed, and why."""


def save(
    client: redis.Redis, names: Names, path: Path, *, force: bool = False, snapshots: str = ""
) -> Saved:
    """Write a snapshot of a run into a file; only its owner may read a new one.

    The file appears under its name when it is complete.

    snapshots: the URL under which this host reaches the snapshots of models that are files, if it
        is not that of the replicas.

    Raises SettingsError if the file exists and `force` is false, or if it cannot be written, and
    SnapshotError if no snapshot of a model is whole.
    """
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            partial = stack.enter_context(writing(path, force=force, mode=0o600))
            folder = path.absolute().parent
            copies = SnapshotCopies(client, names, folder, stack, snapshots)
            copies.prefetch()
            snapshot = Snapshotter(client, names, folder, stack).take()
            keys = copies.complete(snapshot.keys)
            server = str(check(client) or "unknown")
            origin = Origin(names.run, server, _release(), snapshot.at_ms)
            writer = Writer(partial, origin)
            for copy in copies.found:
                writer.key(copy.header, copy.lines())
            for each in sorted(keys, key=lambda each: each.header.key):
                writer.key(each.header, each.lines())
            totals = writer.finish()
            size = partial.tell()
    except FormatError as error:
        raise SettingsError(f"run {names.run} does not fit into a backup: {error}") from error
    seconds = time.monotonic() - began
    warnings = tuple(copies.warnings)
    return Saved(origin, totals, size, writer.bytes, snapshot.seconds, seconds, warnings)


def _release() -> str:
    try:
        return version("roomgrad")
    except PackageNotFoundError:  # not installed: it runs from its folder
        return "unknown"
