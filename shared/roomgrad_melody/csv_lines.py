"""Lines of CSV: ratings as the tutorial has them, and pairs below a line of names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from roomgrad_melody.genome import BITS
from roomgrad_melody.rows import (
    HIGHEST,
    InvalidLine,
    InvalidValue,
    Pair,
    Row,
    as_given,
    at_of,
    counted,
    describe_value,
    listened_of,
    melody_of,
    preference_of,
    rater_of,
)

NAMES = ("first", "second", "preference", "rater", "at", "listened_first", "listened_second")
HEADER = ",".join(NAMES)
"""The first line of a file of pairs; the rest are ratings, or pairs."""

# ratings

_RATING = re.compile(rf'"\(((?:[01], ){{{BITS - 1}}}[01])\)",([0-{HIGHEST}])')


def rating(number: int, line: str) -> Row:
    """Return the rating of a line. Raises InvalidLine."""
    match = _RATING.fullmatch(line)
    if match is None:
        raise _problem(line)
    bits = np.frombuffer(match[1].encode("ascii"), dtype=np.uint8)[::3] - np.uint8(ord("0"))
    return Row(bits, int(match[2]), line=number)


def _problem(line: str) -> InvalidLine:
    """Return the first problem of an invalid line."""
    if not line.startswith('"('):
        return InvalidLine(1, describe_value(line), 'the melody, beginning with "(')
    end = line.find(')"')
    if end < 0:
        return InvalidLine(len(line) + 1, "the end of the line", 'the end of the melody, )"')
    bits = line[2:end].split(", ")
    for place, bit in enumerate(bits, 1):
        if bit not in ("0", "1"):
            return InvalidLine(
                3 * place,  # the values before take one digit, a comma and a space each
                describe_value(bit),
                f"0 or 1 as value {place} of the melody, with a comma and a space between values",
            )
    if len(bits) != BITS:
        return InvalidLine(3, counted(len(bits), "value"), f"the {BITS} values of a melody")
    column = end + 3
    rest = line[end + 2 :]
    if not rest.startswith(","):
        return InvalidLine(
            column,
            describe_value(rest) if rest else "the end of the line",
            "a comma and the rating after the melody",
        )
    found = describe_value(rest[1:]) if rest[1:] else "the end of the line"
    return InvalidLine(column + 1, found, f"a whole number from 0 to {HIGHEST} as rating")


def rating_line(row: Row) -> str:
    """Return the line of a rating, with its end."""
    return f'"({", ".join(as_given(row.genome))})",{row.rating}\n'


# pairs

_FIELD = re.compile(r'(?:"((?:[^"]|"")*)"|([^",]*))(?:,|$)')


def pair(number: int, line: str) -> Pair:
    """Return the pair of a line. Raises InvalidLine."""
    fields = _fields(line)
    if len(fields) != len(NAMES):
        raise InvalidLine(1, counted(len(fields), "field"), f"the {len(NAMES)} fields {HEADER}")
    found: dict[str, Any] = {}
    for name, (column, text) in zip(NAMES, fields, strict=True):
        try:
            found[name] = CHECKS[name](text)
        except InvalidValue as wrong:
            raise InvalidLine(column, wrong.value, wrong.expected) from wrong
    listened = found.pop("listened_first"), found.pop("listened_second")
    try:
        return Pair(prefer=found.pop("preference"), listened=listened, line=number, **found)
    except InvalidValue as wrong:
        raise InvalidLine(1, wrong.value, wrong.expected) from wrong


def _fields(line: str) -> list[tuple[int, str]]:
    """Return the fields of a line with their columns. Raises InvalidLine for a stray quote."""
    fields: list[tuple[int, str]] = []
    at = 0
    more = True
    while more:
        match = _FIELD.match(line, at)
        if match is None:
            raise InvalidLine(
                at + 1, describe_value(line[at:]), "a field, in quotes or without any"
            )
        quoted, plain = match.groups()
        fields.append((at + 1, plain if quoted is None else quoted.replace('""', '"')))
        at = match.end()
        more = line[at - 1 : at] == "," and match.end() > match.start()
    return fields


def _melody(text: str) -> str:
    if not (text.startswith("(") and text.endswith(")")):
        raise InvalidValue(describe_value(text), "the melody as (0, 1, ...)")
    return melody_of(text[1:-1].replace(", ", ""))


def _time(text: str) -> float | None:
    if text and not re.fullmatch(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text):
        raise InvalidValue(describe_value(text), "the time as seconds since 1970")
    return at_of(float(text)) if text else None


def _listened(text: str) -> int:
    if not re.fullmatch("[0-9]{1,16}", text):
        raise InvalidValue(describe_value(text), "whole milliseconds of listening")
    return listened_of((int(text), 0))[0]


CHECKS: Mapping[str, Callable[[str], Any]] = {
    "first": _melody,
    "second": _melody,
    "preference": preference_of,
    "rater": rater_of,
    "at": _time,
    "listened_first": _listened,
    "listened_second": _listened,
}


def pair_line(pair: Pair) -> str:
    """Return the line of a pair, with its end."""
    melodies = [f"({', '.join(melody)})" for melody in (pair.first, pair.second)]
    line = io.StringIO()
    at = "" if pair.at is None else pair.at
    csv.writer(line, lineterminator="\n").writerow(
        [*melodies, pair.prefer, pair.rater, at, *pair.listened]
    )
    return line.getvalue()
