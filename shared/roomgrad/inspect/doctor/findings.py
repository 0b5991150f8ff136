"""A finding: what was found, what was expected, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import partial


class Level(IntEnum):
    """How bad it is."""

    OK = 0
    WARNING = 1
    """It works now, and will fail some day."""
    PROBLEM = 2
    """Data is lost, or the run is stuck."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Level
    about: str
    found: str
    expected: str = ""
    do: str = ""
    run: str = ""
    """The run that was checked; empty for the server."""


ok = partial(Finding, Level.OK)
warning = partial(Finding, Level.WARNING)
problem = partial(Finding, Level.PROBLEM)
