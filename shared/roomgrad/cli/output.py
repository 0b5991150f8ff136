"""Output: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from roomgrad.inspect.format import printable

WIDE = 160  # columns if the output is no terminal


def console() -> Console:
    """Return standard output; wide enough for programs that read it."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table without lines. `<` before a column's name folds long text.

    Columns of numbers are aligned right.
    """
    made = Table(box=None, pad_edge=False, header_style="dim")
    lines = [[_text(cell) for cell in row] for row in rows]
    for at, name in enumerate(columns):
        numbers = bool(lines) and all(_is_number(line[at]) for line in lines)
        folds = name.startswith("<")
        made.add_column(
            name.removeprefix("<"),
            justify="right" if numbers else "left",
            overflow="fold" if folds else "ellipsis",
            no_wrap=not folds,
        )
    for line in lines:
        made.add_row(*map(Text, line))
    return made


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else printable(str(cell))


def _is_number(text: str) -> bool:
    return text == "" or text.replace(",", "").replace(".", "").removesuffix(" s").isdecimal()


def print_json(found: Any) -> None:
    """Print one JSON object on a line of its own; dataclasses by their fields."""
    sys.stdout.write(orjson.dumps(found, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode())
    sys.stdout.write("\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print a line to standard error, which is no part of the output."""
    print(f"roomgrad: {text}", file=sys.stderr, flush=True)


def format_age(seconds: float) -> str:
    """Return a duration, rounded as its length allows."""
    if seconds < 120:
        return f"{max(0.0, seconds):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_size(count: float) -> str:
    """Return a number of bytes in B, KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
