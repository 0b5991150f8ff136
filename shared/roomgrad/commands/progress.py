"""Shows how far a training is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from roomgrad.commands.ledger import Ledger

LINE_EVERY_S = 2.0
LINES = 10


class Shown(Protocol):
    """Something that shows how far a training is, while it is entered."""

    def show(self, ledger: Ledger) -> None:
        """Bring it up to date."""

    def __enter__(self) -> Shown: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...


def progress(console: Console, steps: int) -> Shown:
    """A bar on a terminal, plain lines elsewhere."""
    return Bar(console, steps) if console.is_terminal else Lines(console, steps)


class Bar:
    """A progress bar with loss and miss."""

    def __init__(self, console: Console, steps: int) -> None:
        self._progress = Progress(
            TextColumn("  training"),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TextColumn("[bold]{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )
        self._task = self._progress.add_task("", total=steps, numbers="waiting for the first loss")

    def show(self, ledger: Ledger) -> None:
        if ledger.newest is not None:
            numbers = f"loss {ledger.newest.loss:8.2f}  miss {ledger.newest.miss_m:5.2f} m"
            done = ledger.finished + ledger.dead
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

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._next_step = 0
        self._next_time = 0.0

    def show(self, ledger: Ledger) -> None:
        done = ledger.finished + ledger.dead
        early = time.monotonic() < self._next_time and done < self._steps
        if ledger.newest is None or done < self._next_step or early:
            return
        self._next_step = min(done + max(self._steps // LINES, 1), self._steps)
        if done >= self._steps:
            self._next_step = self._steps + 1
        self._next_time = time.monotonic() + LINE_EVERY_S
        self._console.print(
            f"step {done:>6} of {self._steps}   loss {ledger.newest.loss:9.2f}   "
            f"mean miss {ledger.newest.miss_m:6.2f} m",
            highlight=False,
        )

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        return None
