"""Read pairs of wind and target from a CSV file, and write them back with their shots."""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from roomgrad.errors import SettingsError
from roomgrad_trebuchet.shoot import Shots

NEEDED = ("wind", "target")
RESULTS = ("angle_deg", "weight_kg", "distance_m", "miss_m", "status")  # columns that are added
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Table:
    """The rows of a file, unchanged, and the numbers in them."""

    columns: Sequence[str]
    rows: Sequence[dict[str, str]]
    pairs: NDArray[np.float32]
    """`(rows, 2)`: wind in m/s, target in m."""


def read(path: str) -> Table:
    """Return the table of a file, or stdin for `-`: CSV in UTF-8 or, as Excel writes it, UTF-16.

    Raises SettingsError with line and column.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
        return _read(io.StringIO(text, newline=""), "stdin" if path == "-" else path)
    except OSError as error:
        raise SettingsError(f"--csv {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"--csv {path} is not a CSV file in UTF-8: {error}") from error


def write(table: Table, shots: Iterable[Shots], file: TextIO) -> None:
    """Write the rows of the table with the results of their shots."""
    results = [each.row(index) for each in shots for index in range(len(each.wind))]
    columns = list(dict.fromkeys([*table.columns, *(results[0] if results else ())]))
    writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({**row, **result} for row, result in zip(table.rows, results, strict=True))


def _read(file: TextIO, path: str) -> Table:
    reader = csv.DictReader(file, skipinitialspace=True)
    columns = list(reader.fieldnames or ())
    _check_columns(columns, path)
    rows, pairs = [], []
    for row in reader:
        if None in row:
            raise SettingsError(
                f"{path} line {reader.line_num}: expected {len(columns)} cells as in the first "
                f"line, got {len(columns) + len(row[None])}: put texts with commas in quotes"
            )
        rows.append(row)
        pairs.append([_number(row[name], path, reader.line_num, name) for name in NEEDED])
    if not rows:
        raise SettingsError(f"{path} has no rows below its first line")
    return Table(columns, rows, np.array(pairs, dtype=np.float32))


def _check_columns(columns: Sequence[str], path: str) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        found = ", ".join(columns) or "nothing"
        advice = ""
        if len(columns) == 1 and re.search("[;\t]", found):
            advice = ": put commas between columns, and points before decimals"
        raise SettingsError(
            f"{path} has no column {' and no column '.join(missing)} in its first line, "
            f"which holds {found}{advice}"
        )
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise SettingsError(f"{path} has two columns {twice[0]}: rename one of them")
    if taken := [name for name in columns if name in RESULTS]:
        raise SettingsError(
            f"{path} has a column {taken[0]}, which the results are written to: rename it"
        )


def _number(text: str | None, path: str, line: int, column: str) -> float:
    """Return a number that is finite in float32. Raises SettingsError."""
    number = float(text) if text and _NUMBER.fullmatch(text) else float("nan")
    if not abs(number) <= LARGEST:
        shown = repr(text) if text else "empty"
        raise SettingsError(f"{path} line {line}, column {column}: {shown} is not a finite number")
    return number
