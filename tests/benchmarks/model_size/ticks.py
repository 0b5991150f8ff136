"""The times at which a process has finished its steps, told to the process that measures."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import IO

TELL_S = 0.25
WARM_UP_S, WARM_UP_STEPS = 2.0, 3
LEAST_STEPS = 6
PATIENCE_S = 240.0  # the largest model is made, loaded, and its first step is done


class Clock:
    """Takes the time of each step, and prints the times four times a second."""

    def __init__(self) -> None:
        self._ticks: list[float] = []
        threading.Thread(target=self._tell, daemon=True).start()

    def tick(self) -> None:
        """Note that a step is over."""
        self._ticks.append(time.monotonic())

    def _tell(self) -> None:
        while True:
            time.sleep(TELL_S)
            count = len(self._ticks)
            print(json.dumps(self._ticks[:count]), flush=True)
            del self._ticks[:count]


class Ticks:
    """The ends of all steps of a process so far, by the clock that all processes share."""

    def __init__(self, lines: IO[str], check: Callable[[], None]) -> None:
        """check: raises an error when a process of the benchmark has ended."""
        self.ends: list[float] = []
        self._lines = lines
        self._check = check

    def listen_until(self, enough: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Read what the clock tells, until there is enough of it."""
        last = time.monotonic()
        while not enough():
            found: list[float] = json.loads(self._lines.readline() or "[]")
            self.ends += found
            last = time.monotonic() if found else last
            self._check()
            if time.monotonic() - last > patience_s:
                raise SystemExit(f"no step was finished within {patience_s:.0f} s")

    def warm_up(self) -> None:
        """Wait for the first steps, which are not measured."""
        self.listen_until(
            lambda: len(self.ends) > WARM_UP_STEPS and self.ends[-1] - self.ends[0] >= WARM_UP_S
        )

    def between(self, begin: float, end: float) -> list[float]:
        """Return the ends of the steps within a window of time."""
        return [each for each in self.ends if begin <= each <= end]


def summary(ends: Sequence[float]) -> dict[str, float]:
    """Return mean, median and worst of the steps between these times."""
    took = [(after - before) * 1e3 for before, after in pairwise(ends)]
    mean = statistics.fmean(took)
    return {
        "mean_ms": mean,
        "median_ms": statistics.median(took),
        "worst_of_mean": max(took) / mean,
        "steps": len(took),
    }
