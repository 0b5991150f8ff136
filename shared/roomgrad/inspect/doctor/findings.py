"""A finding: what was found, what was expected, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


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


def ok(about: str, found: str, run: str = "") -> Finding:
    """Return a finding that needs no action."""
    return Finding(Level.OK, about, found, run=run)


def warning(about: str, found: str, expected: str, do: str, run: str = "") -> Finding:
    """Return a finding that works now, and will fail some day."""
    return Finding(Level.WARNING, about, found, expected, do, run)


def problem(about: str, found: str, expected: str, do: str, run: str = "") -> Finding:
    """Return a finding that loses data, or stops the run."""
    return Finding(Level.PROBLEM, about, found, expected, do, run)
