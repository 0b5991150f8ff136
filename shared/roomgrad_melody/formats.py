"""Files of labels: read into ratings or pairs and problems, and written. No content raises.

csv    ratings in the format of the tutorial, `"(0, 1, ...)",3` per line: the bits as the tuple that
       Python prints, then the rating. It has no fields for a rater or a time. Pairs have all of
       them, named in the first line, `roomgrad_melody.csv_lines.HEADER`.
jsonl  ratings: `{"genome":"01...","rating":3,"rater":"anna","at":1760000000.0}` per line, of which
       rater and at may be missing or null; other fields are ignored.
       pairs: `{"chosen":"01...","rejected":"10...","preference":"second",...}`, a preference data
       set without prompt as TRL reads it. `preference` tells which melody was shown first: for
       `second` it is the rejected one, otherwise the chosen one, which is no better if the
       preference is `equal` or `neither`. It may be missing or null, as may rater, at, and listened
       (milliseconds for which the first and the second were heard).
json   tasks of Label Studio: `roomgrad_melody.label_studio`.

A file has ratings or pairs. Lines end with LF. CR LF, a byte order mark, blank lines and a last
line without an end are also read, but not written. A file that is read and written again is the
same to the byte; times in `json` have microseconds. Several rows of one melody, or of one pair, are
revisions, kept in order.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from roomgrad import strict_json
from roomgrad.errors import FormatError
from roomgrad_melody import csv_lines, label_studio
from roomgrad_melody.contract import FIRST, SECOND
from roomgrad_melody.rows import (
    MAX_PROBLEMS,
    MISSING,
    InvalidLine,
    InvalidValue,
    Pair,
    Problem,
    Result,
    Row,
    as_given,
    at_of,
    describe_value,
    genome_of,
    listened_of,
    melody_of,
    preference_of,
    rater_of,
    rating_of,
)

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_LINE",
    "MAX_PROBLEMS",
    "Pair",
    "Problem",
    "Result",
    "Row",
    "as_given",
    "format_of",
    "read",
    "write",
    "write_pairs",
]

FORMATS = ("csv", "jsonl", "json")
"""The formats, named like the suffixes of their files."""

MAX_BYTES = 64 * 1024 * 1024
"""Limit of a file: about 170,000 labels as CSV."""

MAX_LINE = 10_000
"""Limit of a line of csv or jsonl; a pair needs 900 bytes."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def format_of(path: Path) -> str:
    """Return the format of a file by its suffix. Raises FormatError for an unknown one."""
    ending = path.suffix.lower()
    if ending[1:] not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise FormatError(f"{path}: expected a name that ends with one of {endings}")
    return ending[1:]


def read(source: Path | str | bytes, format: str | None = None) -> Result:
    """Read the labels of a file (a Path) or of its contents (str or bytes).

    Raises FormatError if the format is unknown, or the file cannot be opened or is too large.
    Anything else that is invalid is a problem of the result.
    """
    if format is None:
        if not isinstance(source, Path):
            raise FormatError(f"expected the format of the text, one of {', '.join(FORMATS)}")
        format = format_of(source)
    _known(format)
    data = _bytes(source).removeprefix(BYTE_ORDER_MARK)
    result = Result()
    if format == "json":
        label_studio.read(data, result)
        return result
    label = csv_lines.rating if format == "csv" else _jsonl
    for number, line in _lines(data, result):
        if format == "csv" and line == csv_lines.HEADER:
            label = csv_lines.pair
            continue
        try:
            result.add(label(number, line))
        except InvalidLine as wrong:
            result.problem(number, wrong.column, wrong.value, wrong.expected)
    return result


def write(rows: Iterable[Row], format: str) -> str:
    """Return the contents of a file with these rows. Raises FormatError for an unknown format."""
    _known(format)
    if format == "json":
        return label_studio.write(rows)
    return "".join(map(csv_lines.rating_line if format == "csv" else _rating_line, rows))


def write_pairs(pairs: Iterable[Pair], format: str) -> str:
    """Return the contents of a file with these pairs. Raises FormatError for an unknown format."""
    _known(format)
    if format == "json":
        return label_studio.write_pairs(pairs)
    if format == "csv":
        return "".join([csv_lines.HEADER + "\n", *map(csv_lines.pair_line, pairs)])
    return "".join(map(_pair_line, pairs))


def _known(format: str) -> None:
    if format not in FORMATS:
        raise FormatError(f"the format is {format!r}; expected one of {', '.join(FORMATS)}")


def _bytes(source: Path | str | bytes) -> bytes:
    """Return the bytes of a source. Raises FormatError for a missing file or over 64 MiB."""
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise FormatError(f"{source} cannot be read: {error.strerror}") from error
        except ValueError as error:  # the name contains NUL
            raise FormatError(f"{str(source)!r} cannot be read: {error}") from error
    elif isinstance(source, str):
        # A lone surrogate becomes invalid UTF-8, and so a problem of its line.
        data = source.encode("utf-8", "surrogatepass")
    else:
        data = source
    if len(data) > MAX_BYTES:
        raise FormatError(f"expected at most {MAX_BYTES // 2**20} MiB of labels: split the file")
    return data


def _lines(data: bytes, result: Result) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers; add problems for invalid UTF-8."""
    # Not `split`: a file of newlines would become a list of 64 million.
    for number, line in enumerate(io.BytesIO(data), 1):
        if not line.strip():
            continue
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) > MAX_LINE:
            result.problem(
                number, MAX_LINE + 1, f"{len(line)} bytes", f"a line of at most {MAX_LINE} bytes"
            )
            continue
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            column = len(line[: error.start].decode("utf-8")) + 1
            result.problem(number, column, f"the byte 0x{line[error.start]:02x}", "UTF-8 text")


# jsonl

_RATING = {"genome": genome_of, "rating": rating_of, "rater": rater_of, "at": at_of}
_PAIR = {
    "chosen": melody_of,
    "rejected": melody_of,
    "preference": preference_of,
    "rater": rater_of,
    "at": at_of,
    "listened": listened_of,
}
_DEFAULTS = {"rater": "", "at": None, "preference": FIRST, "listened": (0, 0)}


def _jsonl(number: int, line: str) -> Row | Pair:
    try:
        body = strict_json.loads(line)
    except orjson.JSONDecodeError as error:
        rest = line[error.pos :]
        value = describe_value(rest) if rest else "the end of the line"
        raise InvalidLine(error.pos + 1, value, strict_json.expected(error)) from error
    if not isinstance(body, dict):
        raise InvalidLine(1, describe_value(body), 'an object with "genome" and "rating"')
    if not body.keys() & {"chosen", "rejected"}:
        return Row(**_checked(line, body, _RATING), line=number)
    found = _checked(line, body, _PAIR)
    prefer = found.pop("preference")
    both = found.pop("chosen"), found.pop("rejected")
    first, second = both[::-1] if prefer == SECOND else both
    try:
        return Pair(first, second, prefer, **found, line=number)
    except InvalidValue as wrong:
        raise InvalidLine(1, wrong.value, wrong.expected) from wrong


def _checked(
    line: str, body: dict[str, Any], checks: Mapping[str, Callable[[object], Any]]
) -> dict[str, Any]:
    """Return the values of these fields. Raises InvalidLine for the first that is invalid."""
    found = {}
    for name, check in checks.items():
        value = body.get(name)
        if value is None and name in _DEFAULTS:
            value = _DEFAULTS[name]
        try:
            found[name] = check(value if name in body or name in _DEFAULTS else MISSING)
        except InvalidValue as wrong:
            raise InvalidLine(_column(line, name), wrong.value, wrong.expected) from wrong
    return found


def _column(line: str, name: str) -> int:
    """Return the column of a field's value; 1 if the name is missing or not unique."""
    found = list(re.finditer(rf'"{name}"\s*:\s*', line))
    return found[0].end() + 1 if len(found) == 1 else 1


def _rating_line(row: Row) -> str:
    body = {"genome": as_given(row.genome), "rating": row.rating}
    return orjson.dumps({**body, "rater": row.rater, "at": row.at}).decode() + "\n"


def _pair_line(pair: Pair) -> str:
    both = (pair.first, pair.second)
    chosen, rejected = both[::-1] if pair.prefer == SECOND else both
    body = {"chosen": chosen, "rejected": rejected, "preference": pair.prefer}
    about = {"rater": pair.rater, "at": pair.at, "listened": pair.listened}
    return orjson.dumps({**body, **about}).decode() + "\n"
