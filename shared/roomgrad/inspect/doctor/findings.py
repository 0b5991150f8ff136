"""A finding: what was found, what was expected, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How bad it is."""

    OK = 0
    WARNING = 1
    """It works, and will hurt some day."""
    PROBLEM = 2
    """Data is lost, or nothing goes on."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    about: str
    found: str
    expected: str = ""
    do: str = ""
    run: str = ""
    """The run that it is about; nothing where it is the server."""


def ok(about: str, found: str, run: str = "") -> Finding:
    """Nothing to be done."""
    return Finding(Level.OK, about, found, run=run)


def warning(about: str, found: str, expected: str, do: str, run: str = "") -> Finding:
    """It works, and will hurt some day."""
    return Finding(Level.WARNING, about, found, expected, do, run)


def problem(about: str, found: str, expected: str, do: str, run: str = "") -> Finding:
    """Data is lost, or nothing goes on."""
    return Finding(Level.PROBLEM, about, found, expected, do, run)
