"""Folders of this machine: the project, and the state that servers and runs keep beside it."""

from __future__ import annotations

import os
from pathlib import Path

from roomgrad.errors import RoomgradError
from roomgrad.names import encoded


def find_root() -> Path | None:
    """The folder with `services/`, found upwards from here, else beside the installed package."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if any(folder.glob("services/*/__main__.py")):
            return folder
    return None


def root() -> Path:
    """The folder with `services/`. Raises RoomgradError where there is none."""
    found = find_root()
    if found is None:
        raise RoomgradError(
            f"no services/ folder in {Path.cwd()} or above it: go into a checkout of the project"
        )
    return found


def state_directory() -> Path:
    """Where servers keep their data and runs their logs: ROOMGRAD_STATE, else `.roomgrad/`."""
    given = os.environ.get("ROOMGRAD_STATE", "")
    return Path(given).resolve() if given else (find_root() or Path.cwd()) / ".roomgrad"


def server_directory() -> Path:
    """The directory of the embedded server that all runs of this project share."""
    return state_directory() / "server"


def run_directory(run: str) -> Path:
    """Where one run keeps its logs."""
    name = encoded(run)
    return state_directory() / (f"%2E{name[1:]}" if name.startswith(".") else name)
