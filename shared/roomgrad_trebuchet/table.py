"""Read pairs of wind and target from a CSV file, and write them back with their shots."""

from __future__ import annotations

import csv
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
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Table:
    """The rows of a file, unchanged, and the numbers in them."""

    columns: Sequence[str]
    rows: Sequence[dict[str, str]]
    pairs: NDArray[np.float32]
    """`(rows, 2)`: wind in m/s, target in m."""


def read(path: str) -> Table:
    """Return the table of a file, or stdin for `-`. Raises SettingsError with line and column."""
    try:
        if path == "-":
            return _read(sys.stdin, "stdin")
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            return _read(file, path)
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
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        found = ", ".join(columns) or "nothing"
        raise SettingsError(
            f"{path} has no column {' and no column '.join(missing)} in its first line, "
            f"which holds {found}"
        )
    rows, pairs = [], []
    for row in reader:
        rows.append(row)
        pairs.append([_number(row[name], path, reader.line_num, name) for name in NEEDED])
    if not rows:
        raise SettingsError(f"{path} has no rows below its first line")
    return Table(columns, rows, np.array(pairs, dtype=np.float32))


def _number(text: str | None, path: str, line: int, column: str) -> float:
    """Return a number that is finite in float32. Raises SettingsError."""
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not abs(number) <= LARGEST:
        shown = repr(text) if text else "empty"
        raise SettingsError(f"{path} line {line}, column {column}: {shown} is not a finite number")
    return number
