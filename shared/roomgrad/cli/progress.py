"""Shows how far something is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 2.0
LINES = 10


class Shown(Protocol):
    """Something that shows how far it is, while it is entered."""

    def show(self, done: int, numbers: str) -> None:
        """Bring it up to date; `numbers` is what one wants to know beside."""

    def __enter__(self) -> Shown: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...


def progress(console: Console, unit: str, total: int, waiting: str) -> Shown:
    """A bar on a terminal, plain lines elsewhere. unit: of what there are `total`."""
    if console.is_terminal:
        return Bar(console, unit, total, waiting)
    return Lines(console, unit, total)


class Bar:
    """A progress bar with numbers."""

    def __init__(self, console: Console, unit: str, total: int, waiting: str) -> None:
        self._progress = Progress(
            TextColumn(f"  {unit}"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("[bold]{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=total, numbers=waiting)

    def show(self, done: int, numbers: str) -> None:
        self._progress.update(self._task, completed=done, numbers=numbers)

    def __enter__(self) -> Bar:
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

    def show(self, done: int, numbers: str) -> None:
        early = time.monotonic() < self._next_time and done < self._total
        if done < self._next or early:
            return
        self._next = min(done + max(self._total // LINES, 1), self._total)
        if done >= self._total:
            self._next = self._total + 1
        self._next_time = time.monotonic() + LINE_EVERY_S
        percent = 100 * min(done, self._total) // max(self._total, 1)
        line = f"{self._unit} {done:>6} of {self._total}  {percent:>3} %   {numbers}"
        self._console.print(line, highlight=False, markup=False)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None
