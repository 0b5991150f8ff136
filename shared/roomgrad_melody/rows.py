"""One label of a file, one problem in it, and what each field of a label may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np

from roomgrad.errors import FormatError
from roomgrad_melody.genome import BITS, Genomes, check, from_text

HIGHEST = 5
"""Ratings are whole numbers from 0 to this one."""

MAX_RATER = 128
"""Characters of a rater's name, as in a message."""

MAX_AT = 1e11
"""Seconds since 1970, in the year 5138: far off, but still a date."""

MAX_PROBLEMS = 1000
"""Of one file; those beyond are counted, so that no file can fill the memory with them."""

MAX_ROWS = 200_000
"""Of one file, whose labels become one message: their melodies are 26 MB of it."""

SHOWN = 40  # characters of a value that a problem shows


class Missing(Enum):
    """What a field has that is not there; None is what a JSON null is read as."""

    MISSING = 0


MISSING: Final = Missing.MISSING


@dataclass(frozen=True, eq=False)
class Row:
    """A rating of a melody. Raises ValueError when a field is not what it may be.

    genome: uint8 `(128,)` as given, silent bits of rests included.
    rating: 0 to 5. rater: who gave it, if known. at: when, in seconds since 1970, if known.
    line: of the file, from 1; 0 for a row that was not read from one.
    """

    genome: Genomes
    rating: int
    rater: str = ""
    at: float | None = None
    line: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "genome", check(np.asarray(self.genome)[None])[0])
        rating_of(self.rating)
        rater_of(self.rater)
        object.__setattr__(self, "at", at_of(self.at))


@dataclass(frozen=True)
class Problem:
    """Something in a file that could not be read; `str` makes the sentence for a person.

    line, column: where, both from 1. value: what stands there, in quotation marks if it is text.
    """

    line: int
    column: int
    value: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: expected {self.expected}, got {self.value}"


@dataclass
class Result:
    """What a file holds: its labels in order, revisions too, and what could not be read.

    more: how many problems there are beyond the first thousand.
    """

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    more: int = 0

    def row(self, row: Row) -> None:
        """Adds a label. Raises FormatError for one too many."""
        if len(self.rows) >= MAX_ROWS:
            raise FormatError(f"expected at most {MAX_ROWS:,} labels in a file, got more: split it")
        self.rows.append(row)

    def problem(self, line: int, column: int, value: str, expected: str) -> None:
        """Notes a problem."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(line, column, value, expected))
        else:
            self.more += 1


class Unfit(ValueError):
    """Raised for a value that a field cannot have: what came, and what was expected."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__(f"expected {expected}, got {value}")
        self.value = value
        self.expected = expected


def shown(value: object) -> str:
    """A value as a problem shows it: short, printable, whatever it is."""
    if value is MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else repr(value[:SHOWN]) + "..."
    if isinstance(value, int | float):
        text = repr(value)
        return text if len(text) <= SHOWN else text[:SHOWN] + "..."
    # Not written out: something nested deeply enough could not be.
    return "a list" if isinstance(value, list) else "an object"


def counted(number: int, what: str) -> str:
    """So many of something: "1 value", "2 values"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def as_given(genome: Genomes) -> str:
    """One `(128,)` as 128 characters 0 and 1, silent bits of rests included."""
    return (genome + np.uint8(ord("0"))).tobytes().decode("ascii")


def genome_of(value: object) -> Genomes:
    """The genome `(128,)` that a text spells, as given. Raises Unfit."""
    expected = f"the melody as a text of {BITS} characters 0 and 1"
    if not isinstance(value, str):
        raise Unfit(shown(value), expected)
    wrong = next((at for at, bit in enumerate(value) if bit not in "01"), None)
    if wrong is not None:
        raise Unfit(f"{value[wrong]!r} as character {wrong + 1}", expected)
    if len(value) != BITS:
        raise Unfit(counted(len(value), "character"), expected)
    return from_text(value)


def rating_of(value: object) -> int:
    """The rating. Raises Unfit."""
    if type(value) is not int or not 0 <= value <= HIGHEST:
        raise Unfit(shown(value), f"a whole number from 0 to {HIGHEST} as rating")
    return value


def rater_of(value: object) -> str:
    """Who rated, "" if nobody says. Raises Unfit."""
    if not isinstance(value, str) or len(value) > MAX_RATER or not value.isprintable():
        raise Unfit(shown(value), f"the rater as a text of up to {MAX_RATER} printable characters")
    return value


def at_of(value: object) -> float | None:
    """When, in seconds since 1970, None if nobody says. Raises Unfit."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AT:
        return float(value)
    raise Unfit(shown(value), "the time as seconds since 1970")
