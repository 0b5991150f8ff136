"""Shows how far a run is: drawn over on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 2.0
LINES = 10  # of a run with an end, about
STATUS_EVERY_S = 10.0


class Indicator(Protocol):
    """Shows the progress of a run that has an end; a context manager."""

    def show(self, done: int, figures: str) -> None:
        """Show how many units are done, with figures beside."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...


def progress(console: Console, unit: str, total: int, waiting: str) -> Indicator:
    """Return a bar on a terminal, plain lines elsewhere. waiting: shown before the first figures"""
    if console.is_terminal:
        return Bar(console, unit, total, waiting)
    return Lines(console, unit, total)


class Bar:
    """A progress bar with figures."""

    def __init__(self, console: Console, unit: str, total: int, waiting: str) -> None:
        self._progress = Progress(
            TextColumn(f"  {unit}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("[bold]{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=total, figures=waiting)

    def show(self, done: int, figures: str) -> None:
        self._progress.update(self._task, completed=done, figures=figures)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._progress.__exit__(kind, error, at)


class Lines:
    """A line every 2 s at most, about ten in all."""

    def __init__(self, console: Console, unit: str, total: int) -> None:
        self._console = console
        self._unit = unit
        self._total = total
        self._next = 0
        self._next_time = 0.0

    def show(self, done: int, figures: str) -> None:
        early = time.monotonic() < self._next_time and done < self._total
        if done < self._next or early:
            return
        self._next = min(done + max(self._total // LINES, 1), self._total)
        if done >= self._total:
            self._next = self._total + 1
        self._next_time = time.monotonic() + LINE_EVERY_S
        percent = 100 * min(done, self._total) // max(self._total, 1)
        line = f"{self._unit} {done:>6} of {self._total}  {percent:>3} %   {figures}"
        self._console.print(line, highlight=False, markup=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None


class StatusLine:
    """One line about a run that has no end; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._shown = ""
        self._printed_at = -STATUS_EVERY_S

    def show(self, line: str) -> None:
        """Show a line; where the output is no terminal, every 10 s at most."""
        if line == self._shown:
            return
        if self._console.is_terminal:
            text = Text(line, style="cyan", overflow="ellipsis", no_wrap=True)
            self._live.update(text, refresh=True)
        elif time.monotonic() - self._printed_at < STATUS_EVERY_S:
            return
        else:
            self._printed_at = time.monotonic()
            self._console.print(line, markup=False, soft_wrap=True)
        self._shown = line

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._live.stop()
