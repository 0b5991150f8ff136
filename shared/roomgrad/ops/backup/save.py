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


def save(client: redis.Redis, names: Names, path: Path, *, force: bool = False) -> Saved:
    """Write a snapshot of a run into a file; only its owner may read a new one.

    The file appears under its name when it is complete.

    Raises SettingsError if the file exists and `force` is false, or if it cannot be written.
    """
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            partial = stack.enter_context(writing(path, force=force, mode=0o600))
            snapshot = Snapshotter(client, names, path.absolute().parent, stack).take()
            server = str(check(client) or "unknown")
            origin = Origin(names.run, server, _release(), snapshot.at_ms)
            writer = Writer(partial, origin)
            for each in sorted(snapshot.keys, key=lambda each: each.header.key):
                writer.key(each.header, each.lines())
            totals = writer.finish()
            size = partial.tell()
    except FormatError as error:
        raise SettingsError(f"run {names.run} does not fit into a backup: {error}") from error
    seconds = time.monotonic() - began
    return Saved(origin, totals, size, writer.bytes, snapshot.seconds, seconds)


def _release() -> str:
    try:
        return version("roomgrad")
    except PackageNotFoundError:  # not installed: it runs from its folder
        return "unknown"
