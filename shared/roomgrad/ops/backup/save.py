"""Save a run into a file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import redis

from roomgrad.errors import FormatError, SettingsError
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


def save(client: redis.Redis, names: Names, path: Path) -> Saved:
    """Write a snapshot of a run into a new file, which only its owner may read.

    The file appears under its name when it is complete.

    Raises SettingsError if the file exists or cannot be written.
    """
    began = time.monotonic()
    if path.exists():
        raise SettingsError(f"{path} exists: name another file, or delete it first")
    try:
        with ExitStack() as stack:
            partial = stack.enter_context(_partial(path))
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
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}") from error
    seconds = time.monotonic() - began
    return Saved(origin, totals, size, writer.bytes, snapshot.seconds, seconds)


@contextmanager
def _partial(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the same folder, and rename it at the end of the block."""
    number, name = tempfile.mkstemp(".partial", f".{path.name}.", path.absolute().parent)
    try:
        with open(number, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _release() -> str:
    try:
        return version("roomgrad")
    except PackageNotFoundError:  # not installed: it runs from its folder
        return "unknown"
