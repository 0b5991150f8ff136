"""Folders on this machine where servers keep their data and runs their logs."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from roomgrad.errors import RoomgradError
from roomgrad.names import encoded

LONGEST_FILE = 200  # characters of a folder's name, of 255 bytes that file systems allow


def state_directory() -> Path:
    """Return the state folder: ROOMGRAD_STATE, else `.roomgrad/` in a checkout or right here."""
    given = os.environ.get("ROOMGRAD_STATE", "")
    return Path(given).resolve() if given else (_checkout() or current_directory()) / ".roomgrad"


def current_directory() -> Path:
    """Return the current folder. Raises RoomgradError if it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise RoomgradError(
            "the current folder no longer exists: change to another one by `cd`"
        ) from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within the block a file below the state folder is opened or written; make its folder first.

    Raises RoomgradError if that fails: the folder is read-only, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise unusable(path, error) from error


def opened(path: Path, mode: str) -> IO[Any]:
    """Open a file below the state folder for writing. Raises RoomgradError."""
    with writing(path):
        return open(path, mode)


def unusable(path: Path, error: OSError) -> RoomgradError:
    """Return the error to raise if a file of the state folder cannot be written."""
    return RoomgradError(
        f"{path} cannot be written ({error.strerror or error}): name a folder by ROOMGRAD_STATE "
        f"that this user may write to and that has space left"
    )


def _checkout() -> Path | None:
    """Return the checkout of roomgrad that contains the current folder, or this package."""
    here = current_directory()
    folders = (here, *here.parents, Path(__file__).resolve().parents[2])
    return next((each for each in folders if (each / "shared" / "roomgrad").is_dir()), None)


def server_directory() -> Path:
    """Return the directory of the embedded server that all runs share."""
    return state_directory() / "server"


def run_directory(run: str) -> Path:
    """Return the directory of a run's logs."""
    return state_directory() / file_name(run)


def file_name(name: str) -> str:
    """Return the name of a run or a program as the name of a file: plain names unchanged.

    A name that is too long when it is percent-encoded, as are 43 Cyrillic letters, is cut, and ends
    with a hash of the whole.
    """
    found = encoded(name)
    if len(found) > LONGEST_FILE:
        digest = hashlib.sha256(found.encode()).hexdigest()[:32]
        found = f"{found[: LONGEST_FILE - 33]}~{digest}"
    return f"%2E{found[1:]}" if found.startswith(".") else found
