"""Ratings and pairs of a file, problems in it, and the valid values of each of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np

from roomgrad.display import is_displayable
from roomgrad.errors import FormatError
from roomgrad_melody.contract import PREFERENCES
from roomgrad_melody.genome import BITS, Genomes, check, from_text, text

HIGHEST = 5
"""The highest rating; ratings are whole numbers from 0."""

MAX_RATER = 128
"""Characters of a rater's name, as in a message."""

MAX_AT = 1e11
"""Latest time in seconds since 1970, in the year 5138: still a valid date."""

MAX_PROBLEMS = 1000
"""Problems of a file that are stored; more are only counted, so that they cannot fill memory."""

MAX_ROWS = 200_000
"""Labels of a file; ratings become one message, of which their melodies are 26 MB."""

MAX_LISTENED = 2**53
"""Longest time of listening, in ms: the largest whole number that every reader of JSON keeps."""

SHOWN = 40  # characters of a value that a problem shows


class Missing(Enum):
    """The value of a missing field; None is the value of a JSON null."""

    MISSING = 0


MISSING: Final = Missing.MISSING


@dataclass(frozen=True, eq=False)
class Row:
    """A rating of a melody. Raises ValueError for an invalid field.

    genome: uint8 `(128,)` as given, silent bits of rests included. rating: 0 to 5. rater: their
    name, if known. at: seconds since 1970, if known. line: line of the file, from 1; 0 for a row
    that was not read from a file.
    """

    genome: Genomes
    rating: int
    rater: str = ""
    at: float | None = None
    line: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "genome", check(np.asarray(self.genome)[None])[0])
        object.__setattr__(self, "rating", rating_of(self.rating))
        rater_of(self.rater)
        object.__setattr__(self, "at", at_of(self.at))


@dataclass(frozen=True)
class Pair:
    """A vote on two melodies. Raises ValueError for an invalid field, or for a pair of one sound.

    first, second: texts of 128 characters as given, in the order in which they were shown. prefer:
    first, second, equal, or neither. listened: milliseconds for which each was heard. Other fields
    are those of a `Row`.
    """

    first: str
    second: str
    prefer: str
    rater: str = ""
    at: float | None = None
    listened: tuple[int, int] = (0, 0)
    line: int = 0

    def __post_init__(self) -> None:
        if text(genome_of(self.first)) == text(genome_of(self.second)):
            raise InvalidValue("the same twice", "two melodies of different sound")
        preference_of(self.prefer)
        rater_of(self.rater)
        object.__setattr__(self, "at", at_of(self.at))
        object.__setattr__(self, "listened", listened_of(self.listened))


@dataclass(frozen=True)
class Problem:
    """Something invalid in a file; `str` returns a sentence for the user.

    line, column: both from 1. value: what was found there, in quotation marks if it is text.
    """

    line: int
    column: int
    value: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: expected {self.expected}, got {self.value}"


@dataclass
class Result:
    """The contents of a file: its ratings or its pairs in order, with revisions, and its problems.

    more: number of problems beyond the first thousand.
    """

    rows: list[Row] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    more: int = 0

    def add(self, label: Row | Pair) -> None:
        """Add a label; a pair among ratings is a problem. Raises FormatError for one too many."""
        if len(self.rows) + len(self.pairs) >= MAX_ROWS:
            raise FormatError(f"expected at most {MAX_ROWS:,} labels in a file, got more: split it")
        if isinstance(label, Row) and not self.pairs:
            self.rows.append(label)
        elif isinstance(label, Pair) and not self.rows:
            self.pairs.append(label)
        else:
            kinds = ("a rating", "a pair") if self.rows else ("a pair", "a rating")
            expected = f"{kinds[0]}, as before: a file has ratings or pairs"
            self.problem(label.line, 1, kinds[1], expected)

    def problem(self, line: int, column: int, value: str, expected: str) -> None:
        """Add a problem."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(line, column, value, expected))
        else:
            self.more += 1


class InvalidValue(FormatError, ValueError):
    """Raised for an invalid value of a field; has the value as text, and what was expected."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__(f"expected {expected}, got {value}")
        self.value = value
        self.expected = expected


class InvalidLine(InvalidValue):
    """Raised for an invalid line; has the column, from 1."""

    def __init__(self, column: int, value: str, expected: str) -> None:
        super().__init__(value, expected)
        self.column = column


def describe_value(value: object) -> str:
    """Return any value as a short, printable text for a problem."""
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
    # Not written out: deep nesting would exceed the recursion limit.
    return "a list" if isinstance(value, list) else "an object"


def counted(number: int, what: str) -> str:
    """Return a number with its noun: "1 value", "2 values"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def as_given(genome: Genomes) -> str:
    """Return a genome `(128,)` as 128 characters 0 and 1, silent bits of rests included."""
    return (genome + np.uint8(ord("0"))).tobytes().decode("ascii")


def genome_of(value: object) -> Genomes:
    """Return the genome `(128,)` of a text, as given. Raises InvalidValue."""
    expected = f"the melody as a text of {BITS} characters 0 and 1"
    if not isinstance(value, str):
        raise InvalidValue(describe_value(value), expected)
    wrong = next((at for at, bit in enumerate(value) if bit not in "01"), None)
    if wrong is not None:
        raise InvalidValue(f"{value[wrong]!r} as character {wrong + 1}", expected)
    if len(value) != BITS:
        raise InvalidValue(counted(len(value), "character"), expected)
    return from_text(value)


def rating_of(value: object) -> int:
    """Return a rating; 3.0 is 3, as other programs write numbers. Raises InvalidValue."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= HIGHEST:
        raise InvalidValue(describe_value(value), f"a whole number from 0 to {HIGHEST} as rating")
    return value


def rater_of(value: object) -> str:
    """Return the name of a rater, "" if unknown. Raises InvalidValue."""
    if (
        not isinstance(value, str)
        or len(value) > MAX_RATER
        or (value and not is_displayable(value))
    ):
        raise InvalidValue(
            describe_value(value), f"the rater as a text of up to {MAX_RATER} printable characters"
        )
    return value


def at_of(value: object) -> float | None:
    """Return a time in seconds since 1970, None if unknown. Raises InvalidValue."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_AT:
        return float(value)
    raise InvalidValue(describe_value(value), "the time as seconds since 1970")


def melody_of(value: object) -> str:
    """Return the text of a melody, as given. Raises InvalidValue."""
    return as_given(genome_of(value))


def preference_of(value: object) -> str:
    """Return a preference. Raises InvalidValue."""
    if value not in PREFERENCES:
        raise InvalidValue(describe_value(value), f"the preference as {one_of(PREFERENCES)}")
    return str(value)


def listened_of(value: object) -> tuple[int, int]:
    """Return for how long each melody was heard. Raises InvalidValue."""
    if isinstance(value, list | tuple) and len(value) == 2:
        first, second = map(_whole, value)
        if first is not None and second is not None:
            return first, second
    raise InvalidValue(describe_value(value), "two times of listening as whole milliseconds")


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_LISTENED else None


def one_of(words: Sequence[str]) -> str:
    """Return words as a choice: "a, b, or c"."""
    return f"{', '.join(words[:-1])}, or {words[-1]}"
