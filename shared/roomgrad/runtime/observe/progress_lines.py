"""One log line every few seconds of work, and one when there is no more, at level info."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean

import structlog

from roomgrad.messages import Message
from roomgrad.rooms import MessageType
from roomgrad.runtime.observe.outcome import COMMITTED, Outcome

EVERY_S = 5.0
REPORT = MessageType.LOG_KPI.value

log = structlog.get_logger("roomgrad")


class ProgressLines:
    """Logs how many messages this replica has handled, and what it reported (`context.report`).

    Of reported numbers it logs the mean since the last line, of whole numbers the newest. Each
    replica logs its own; nothing is logged while nothing is handled.
    """

    def __init__(self, component: str, every_s: float = EVERY_S) -> None:
        self._component = component
        self._every_s = every_s
        self._handled = self._said = 0
        self._said_at = time.monotonic()
        self._reports: list[Mapping[str, object]] = []

    def handled(self, outcome: Outcome) -> None:
        """Count a message, and log a line if it is time."""
        if outcome.outcome != COMMITTED:
            return
        if self._said == self._handled and self._is_due():
            self._said_at = time.monotonic()  # work begins: the pause before it is not counted
        self._handled += 1
        self._reports += [each.fields for each in outcome.sent if each.type == REPORT]
        if self._is_due():
            self._say()

    def idle(self) -> None:
        """Log a line for the work that has ended, if it is time."""
        if self._is_due():
            self._say()

    def sent(self, messages: Sequence[Message]) -> None:
        """Do nothing: the component that handles a message counts it."""

    def close(self) -> None:
        """Log a line for the work since the last one."""
        self._say()

    def _is_due(self) -> bool:
        return time.monotonic() - self._said_at >= self._every_s

    def _say(self) -> None:
        new, now = self._handled - self._said, time.monotonic()
        if not new:
            return
        per_s = round(new / max(now - self._said_at, 1e-3), 1)
        names = dict.fromkeys(name for report in self._reports for name in report)
        figures = {name.lower(): self._figure(name) for name in names}
        log.info(
            "working", component=self._component, handled=self._handled, per_s=per_s, **figures
        )
        self._said, self._said_at, self._reports = self._handled, now, []

    def _figure(self, name: str) -> object:
        values = [report[name] for report in self._reports if name in report]
        numbers = [value for value in values if isinstance(value, float)]
        return float(f"{fmean(numbers):.5g}") if numbers else values[-1]
