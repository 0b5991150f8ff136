"""A run into a file."""

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
from roomgrad.ops.backup.archive import About, Sums, Writer
from roomgrad.ops.backup.snapshot import Camera
from roomgrad.redis.server import check


@dataclass(frozen=True)
class Saved:
    """What a backup has become."""

    about: About
    sums: Sums
    bytes: int  # of the file
    unpacked: int
    moment_s: float
    seconds: float


def save(client: redis.Redis, names: Names, path: Path) -> Saved:
    """Writes one moment of a run. The file appears when it is whole, for its owner's eyes alone.

    Raises SettingsError where there is such a file already, or none can be.
    """
    began = time.monotonic()
    if path.exists():
        raise SettingsError(f"{path} exists: name another file, or delete it first")
    try:
        with ExitStack() as stack:
            partial = stack.enter_context(_partial(path))
            moment = Camera(client, names, path.absolute().parent, stack).take()
            about = About(names.run, str(check(client) or "unknown"), _version(), moment.at_ms)
            writer = Writer(partial, about)
            for kept in sorted(moment.keys, key=lambda each: each.head.key):
                writer.key(kept.head, kept.lines())
            sums = writer.finish()
            size = partial.tell()
    except FormatError as error:
        raise SettingsError(f"run {names.run} fits into no backup: {error}") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}") from error
    return Saved(about, sums, size, writer.bytes, moment.seconds, time.monotonic() - began)


@contextmanager
def _partial(path: Path) -> Iterator[IO[bytes]]:
    """A file beside it, which only its owner may read; at the end of the block it is this one."""
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


def _version() -> str:
    try:
        return version("roomgrad")
    except PackageNotFoundError:  # it runs from its folder
        return "unknown"
