"""Output: lines and tables for people, JSON for programs.

Much of what is printed comes from programs that reach the server. Its controls and escape sequences
are shown as in a Python literal, and its markup for rich is text.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from roomgrad.display import is_safe, printable
from roomgrad.errors import RoomgradError

WIDE = 160  # columns if the output is no terminal
GAP = 2  # between two columns
FOLDED = 24  # columns that a folded text gets at least, if it is so long


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # as `print` does


def console() -> Console:
    """Return standard output; wide enough for programs that read it."""
    width = None if sys.stdout.isatty() else WIDE
    return _Console(highlight=False, markup=False, emoji=False, width=width)


def say(*lines: str, style: str = "") -> None:
    """Print lines as they are; the terminal wraps long ones, so that they can be copied."""
    if lines:  # in one piece: what reads them may leave after the first one
        console().print(Text("\n".join(map(printable, lines)), style), soft_wrap=True)


def say_marked(mark: str, style: str, line: str) -> None:
    """Print a line after a mark that has a style of its own."""
    console().print(Text.assemble((printable(mark), style), printable(line)), soft_wrap=True)


def warn(line: str) -> None:
    """Print a line to standard error, which is no part of the output."""
    print(f"roomgrad: {printable(line)}", file=sys.stderr, flush=True)


def print_json(found: Any) -> None:
    """Print one JSON object on a line of its own; dataclasses by their fields."""
    from roomgrad import exact_json  # with numpy, which `roomgrad --help` does without

    text = exact_json.dumps(found, nulls=True, default=str).decode()
    sys.stdout.write(text if text.isprintable() else escape_json(text))
    sys.stdout.write("\n")
    sys.stdout.flush()


def escape_json(text: str) -> str:
    """Return the same JSON without characters that control a terminal."""
    return "".join(each if is_safe(each) else f"\\u{ord(each):04x}" for each in text)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print a line for each name and text, the texts below each other."""
    pairs = [(printable(name), text) for name, text in fields]
    width = max((len(name) for name, _ in pairs), default=0)
    say(*(f"{name:<{width}}  {text}".rstrip() for name, text in pairs))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; see `table`."""
    console().print(table(columns, rows))


class _Stdout(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            discard_output()
            raise RoomgradError(
                f"standard output cannot be written ({error.strerror}): what was printed is lost"
            ) from error


def guard_output() -> None:
    """Let what goes wrong with standard output, like a full disk, be an error of ours."""
    before = sys.stdout
    if before is None:  # it was closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Stdout(1, "wb", closefd=False)),
        encoding=before.encoding if before else "utf-8",
        errors="backslashreplace",
        line_buffering=bool(before and before.line_buffering),
    )


@contextmanager
def until_reader_leaves() -> Iterator[None]:
    """End the block without an error on Ctrl+C, and when nothing reads its output any more."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """Discard what is still to be written to standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Column(NamedTuple):
    """A column of a table, and how much of the width it needs."""

    name: str
    cells: list[str]
    folds: bool
    optional: bool
    right: bool

    @property
    def least(self) -> int:
        """The least width: of the longest cell, or of the longest word if the column folds."""
        whole = max(map(cell_len, [self.name, *self.cells]))
        words = [cell_len(word) for cell in self.cells for word in cell.split()]
        return max([cell_len(self.name), *words, min(whole, FOLDED)]) if self.folds else whole


class Table:
    """A table without lines. A narrow terminal gets fewer columns, and no cell is shortened."""

    def __init__(self, columns: Sequence[Column], styles: Sequence[str] = ()) -> None:
        self._columns = columns
        self._styles = styles

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        columns = self._fitting(options.max_width)
        made = RichTable(box=None, pad_edge=False, header_style="dim")
        for each in columns:
            made.add_column(
                each.name,
                justify="right" if each.right else "left",
                overflow="fold",
                no_wrap=not each.folds,
                min_width=min(each.least, options.max_width),
            )
        for at, row in enumerate(zip(*(each.cells for each in columns), strict=True)):
            made.add_row(*map(Text, row), style=self._styles[at] if self._styles else None)
        yield made
        if missing := [each.name for each in self._columns if each not in columns]:
            yield Text(f"A wider terminal also shows: {', '.join(missing)}.", "dim")

    def _fitting(self, width: int) -> list[Column]:
        """Return the columns that fit: optional ones are left out first, the first one never."""
        chosen = list(self._columns)
        order = sorted(chosen[1:], key=lambda each: each.optional)  # stable, and taken from its end
        while order and sum(each.least + GAP for each in chosen) - GAP > width:
            chosen.remove(order.pop())
        return chosen


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], styles: Sequence[str] = ()
) -> Table:
    """Return a table; a column of numbers is aligned right.

    columns: names, with `<` before that of a column whose long texts are folded, and `?` before
    that of one that a narrow terminal may lack. styles: rich's style of each row.
    """
    lines = [[_text(cell) for cell in row] for row in rows]
    made = []
    for at, name in enumerate(columns):
        plain, cells = name.lstrip("<?"), [line[at] for line in lines]
        marks = name.removesuffix(plain)
        numbers = bool(cells) and all(map(_is_number, cells))
        made.append(Column(plain, cells, "<" in marks, "?" in marks, numbers))
    return Table(made, styles)


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else printable(str(cell))


_NUMBER = re.compile(r"(~?[\d,]+(\.\d+)?( s)?)?")


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


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
