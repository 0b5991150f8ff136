"""Files of labels: read into rows and problems, and written. No content of a file raises.

csv    the format of the tutorial, `"(0, 1, ...)",3` per line: the bits as the tuple that Python
       prints, then the rating. It has no fields for a rater or a time.
jsonl  `{"genome":"01...","rating":3,"rater":"anna","at":1760000000.0}` per line, of which rater
       and at may be missing or null; other fields are ignored.
json   tasks of Label Studio: `roomgrad_melody.label_studio`.

Lines end with LF. CR LF, a byte order mark, blank lines and a last line without an end are also
read, but not written. A file that is read and written again is the same to the byte; times in
`json` have microseconds. Several rows of one melody are revisions of its rating, kept in order.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import orjson

from roomgrad import strict_json
from roomgrad.errors import FormatError
from roomgrad_melody import label_studio
from roomgrad_melody.genome import BITS
from roomgrad_melody.rows import (
    HIGHEST,
    MAX_PROBLEMS,
    MISSING,
    InvalidValue,
    Problem,
    Result,
    Row,
    as_given,
    at_of,
    counted,
    describe_value,
    genome_of,
    rater_of,
    rating_of,
)

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_LINE",
    "MAX_PROBLEMS",
    "Problem",
    "Result",
    "Row",
    "as_given",
    "format_of",
    "read",
    "write",
]

FORMATS = ("csv", "jsonl", "json")
"""The formats, named like the suffixes of their files."""

MAX_BYTES = 64 * 1024 * 1024
"""Limit of a file: about 170,000 labels as CSV."""

MAX_LINE = 10_000
"""Limit of a line of csv or jsonl; a label needs 400 bytes."""

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
    for number, line in _lines(data, result):
        try:
            row = _csv_row(number, line) if format == "csv" else _jsonl_row(number, line)
        except _InvalidLine as wrong:
            result.problem(number, wrong.column, wrong.value, wrong.expected)
        else:
            result.row(row)
    return result


def write(rows: Iterable[Row], format: str) -> str:
    """Return the contents of a file with these rows. Raises FormatError for an unknown format."""
    _known(format)
    if format == "json":
        return label_studio.write(rows)
    return "".join(map(_csv_line if format == "csv" else _jsonl_line, rows))


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


class _InvalidLine(InvalidValue):
    """Raised for an invalid line; has the column, from 1."""

    def __init__(self, column: int, value: str, expected: str) -> None:
        super().__init__(value, expected)
        self.column = column


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


# csv

_CSV = re.compile(rf'"\(((?:[01], ){{{BITS - 1}}}[01])\)",([0-{HIGHEST}])')


def _csv_row(number: int, line: str) -> Row:
    match = _CSV.fullmatch(line)
    if match is None:
        raise _csv_problem(line)
    bits = np.frombuffer(match[1].encode("ascii"), dtype=np.uint8)[::3] - np.uint8(ord("0"))
    return Row(bits, int(match[2]), line=number)


def _csv_problem(line: str) -> _InvalidLine:
    """Return the first problem of an invalid line."""
    if not line.startswith('"('):
        return _InvalidLine(1, describe_value(line), 'the melody, beginning with "(')
    end = line.find(')"')
    if end < 0:
        return _InvalidLine(len(line) + 1, "the end of the line", 'the end of the melody, )"')
    bits = line[2:end].split(", ")
    for place, bit in enumerate(bits, 1):
        if bit not in ("0", "1"):
            return _InvalidLine(
                3 * place,  # the values before take one digit, a comma and a space each
                describe_value(bit),
                f"0 or 1 as value {place} of the melody, with a comma and a space between values",
            )
    if len(bits) != BITS:
        return _InvalidLine(3, counted(len(bits), "value"), f"the {BITS} values of a melody")
    column = end + 3
    rest = line[end + 2 :]
    if not rest.startswith(","):
        return _InvalidLine(
            column,
            describe_value(rest) if rest else "the end of the line",
            "a comma and the rating after the melody",
        )
    rating = describe_value(rest[1:]) if rest[1:] else "the end of the line"
    return _InvalidLine(column + 1, rating, f"a whole number from 0 to {HIGHEST} as rating")


def _csv_line(row: Row) -> str:
    return f'"({", ".join(as_given(row.genome))})",{row.rating}\n'


# jsonl


def _jsonl_row(number: int, line: str) -> Row:
    try:
        body = strict_json.loads(line)
    except orjson.JSONDecodeError as error:
        rest = line[error.pos :]
        value = describe_value(rest) if rest else "the end of the line"
        raise _InvalidLine(error.pos + 1, value, strict_json.expected(error)) from error
    if not isinstance(body, dict):
        raise _InvalidLine(1, describe_value(body), 'an object with "genome" and "rating"')
    name = "genome"
    try:
        genome = genome_of(body.get(name, MISSING))
        name = "rating"
        rating = rating_of(body.get(name, MISSING))
        name = "rater"
        rater = rater_of(_given(body.get(name), ""))
        name = "at"
        at = at_of(body.get(name))
    except InvalidValue as wrong:
        raise _InvalidLine(_column(line, name), wrong.value, wrong.expected) from wrong
    return Row(genome, rating, rater, at, number)


def _given(value: object, otherwise: object) -> object:
    return otherwise if value is None else value


def _column(line: str, name: str) -> int:
    """Return the column of a field's value; 1 if the name is missing or not unique."""
    found = list(re.finditer(rf'"{name}"\s*:\s*', line))
    return found[0].end() + 1 if len(found) == 1 else 1


def _jsonl_line(row: Row) -> str:
    body = {
        "genome": as_given(row.genome),
        "rating": row.rating,
        "rater": row.rater,
        "at": row.at,
    }
    return orjson.dumps(body).decode() + "\n"
