"""Show how far a run is: drawn over on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from roomgrad.display import printable

LINE_EVERY_S = 2.0
LINES = 10  # of a run with an end, about
STATUS_EVERY_S = 10.0


@contextmanager
def progress(
    console: Console, unit: str, total: int, waiting: str
) -> Iterator[Callable[[int, str], None]]:
    """Yield a function that shows how many units are done, with figures beside.

    It draws a bar on a terminal, and prints lines elsewhere. waiting: shown before the first
    figures.
    """
    if not console.is_terminal:
        yield Lines(console, unit, total).show
        return
    bar = Progress(
        TextColumn(f"  {printable(unit)}", markup=False),
        BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", style="bold", markup=False),
        TimeRemainingColumn(compact=True),
        console=console,
        expand=True,
    )
    task = bar.add_task("", total=total, figures=waiting)
    with bar:
        yield lambda done, figures: bar.update(task, completed=done, figures=printable(figures))


@dataclass
class Lines:
    """A line every 2 s at most, about ten in all."""

    console: Console
    unit: str
    total: int
    next: int = 0
    next_time: float = 0.0

    def show(self, done: int, figures: str) -> None:
        """Print a line if it is time for one."""
        early = time.monotonic() < self.next_time and done < self.total
        if done < self.next or early:
            return
        self.next = min(done + max(self.total // LINES, 1), self.total)
        if done >= self.total:
            self.next = self.total + 1
        self.next_time = time.monotonic() + LINE_EVERY_S
        percent = 100 * min(done, self.total) // max(self.total, 1)
        line = f"{self.unit} {done:>6} of {self.total}  {percent:>3} %   {figures}"
        self.console.print(Text(printable(line)), soft_wrap=True)


@contextmanager
def status_line(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows one line about a run that has no end.

    Where the output is no terminal, it prints a line every 10 s at most, and none twice.
    """
    printed: list[tuple[float, str]] = [(-STATUS_EVERY_S, "")]

    def show(line: str) -> None:
        at, before = printed[-1]
        if line != before and time.monotonic() - at >= STATUS_EVERY_S:
            printed[:] = [(time.monotonic(), line)]
            console.print(Text(printable(line)), soft_wrap=True)

    if not console.is_terminal:
        yield show
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda line: live.update(
            Text(printable(line), style="cyan", overflow="ellipsis", no_wrap=True), refresh=True
        )
