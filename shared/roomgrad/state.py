"""Folders on this machine where servers keep their data and runs their logs."""

from __future__ import annotations

import os
from pathlib import Path

from roomgrad.names import encoded


def state_directory() -> Path:
    """Return the state folder: ROOMGRAD_STATE, else `.roomgrad/` in a checkout or right here."""
    given = os.environ.get("ROOMGRAD_STATE", "")
    return Path(given).resolve() if given else (_checkout() or Path.cwd()) / ".roomgrad"


def _checkout() -> Path | None:
    """Return the checkout of roomgrad that contains the current folder, or this package."""
    here = Path.cwd()
    folders = (here, *here.parents, Path(__file__).resolve().parents[2])
    return next((each for each in folders if (each / "shared" / "roomgrad").is_dir()), None)


def server_directory() -> Path:
    """Return the directory of the embedded server that all runs share."""
    return state_directory() / "server"


def run_directory(run: str) -> Path:
    """Return the directory of a run's logs."""
    name = encoded(run)
    return state_directory() / (f"%2E{name[1:]}" if name.startswith(".") else name)
