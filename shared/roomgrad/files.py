"""Files that commands write: whole or not at all, and replaced only on request."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from roomgrad.errors import RoomgradError, SettingsError


def refuse_existing(path: Path, force: bool) -> None:
    """Raise SettingsError if a file exists under this name, unless it is to be replaced.

    Commands that work for long call it first. A device or a pipe, such as /dev/stdout, passes.
    """
    if "\0" in str(path):
        raise SettingsError(f"{str(path)!r} cannot be the name of a file: it contains NUL")
    if os.path.isdir(path):  # not `path.is_dir()`, which raises for a name that is too long
        raise SettingsError(f"{path} is a folder: name a file")
    if os.path.isfile(path) and not force:
        raise SettingsError(f"{path} exists: name another file, or replace it by --force")


@contextmanager
def writing(path: Path, *, force: bool, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name, complete, when the block ends.

    If the block raises, nothing changes. A file that is replaced keeps its permissions; if its
    name is a link, the file that the link leads to is replaced.

    mode: the permissions of a new file, of which the umask is subtracted.

    Raises SettingsError if the file exists and `force` is false, or if it cannot be written.
    """
    refuse_existing(path, force)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with path.open("wb") as device:
                yield device
        else:
            with replacing(Path(os.path.realpath(path)), mode) as file:
                yield file
    except RoomgradError:  # of the block, even if it is an OSError, too
        raise
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}") from error


def write(path: Path, data: bytes, *, force: bool) -> None:
    """Write a file as a whole; `writing` says how."""
    with writing(path, force=force) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """Open a temporary file in the same folder, and rename it at the end of the block.

    If the block raises, the file is deleted. Raises OSError.
    """
    partial = path.with_name(f".roomgrad-{uuid4().hex}.partial")
    number = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(number, "wb") as file:
            if path.exists():
                os.fchmod(number, stat.S_IMODE(path.stat().st_mode))
            yield file
            file.flush()
            os.fsync(number)
        os.replace(partial, path)
    except BaseException:
        partial.unlink()
        raise
