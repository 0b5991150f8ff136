"""Folders on this machine where servers keep their data and runs their logs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from roomgrad.errors import RoomgradError
from roomgrad.names import encoded


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
    name = encoded(run)
    return state_directory() / (f"%2E{name[1:]}" if name.startswith(".") else name)
