"""What a component logs of its work: a line every few seconds, and none while nothing happens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from roomgrad.context import Context
from roomgrad.messages import Message, new_id
from roomgrad.names import Names
from roomgrad.rooms import MessageType
from roomgrad.runtime.consumers import Delivery
from roomgrad.runtime.observe.outcome import COMMITTED, SKIPPED, Outcome
from roomgrad.runtime.observe.progress_lines import ProgressLines
from roomgrad.runtime.work import Attempt
from roomgrad_trebuchet.contract import TREBUCHET

EVERY_S = 0.5
NO_READS: Any = None  # nothing is read


def outcome(kind: str = COMMITTED, **reported: float) -> Outcome:
    """A message of which the handler reported figures."""
    report = Message("_logging", MessageType.LOG_KPI.value, new_id(), new_id(), fields=reported)
    found = Outcome(Delivery(TREBUCHET.streams[0], "1-0", []), outcome=kind)
    context = Context(Names("night"), "trainer", None, NO_READS)
    found.attempt = Attempt(context, [report] if reported else [], None)
    return found


def logged(lines: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines without their rates, which depend on the clock."""
    return [{name: each[name] for name in each if name != "per_s"} for each in lines]


def line(**values: object) -> dict[str, object]:
    return {"event": "working", "log_level": "info", "component": "trainer", **values}


def test_work_is_one_line_in_a_while_with_means_of_what_was_reported() -> None:
    """Of whole numbers the newest; each line covers the time since the one before it."""
    with structlog.testing.capture_logs() as lines:
        progress = ProgressLines("trainer", EVERY_S)
        for step, loss in enumerate((8.0, 2.0, 5.0)):
            progress.handled(outcome(STEP=step, LOSS=loss))
        assert lines == []
        time.sleep(EVERY_S)
        progress.handled(outcome(STEP=3, LOSS=1.0))
        progress.handled(outcome(STEP=4, LOSS=0.123456789))
        progress.close()
    assert logged(lines) == [
        line(handled=4, step=3, loss=4.0),
        line(handled=5, step=4, loss=0.12346),
    ]


def test_the_last_work_is_logged_when_no_more_comes_and_then_nothing() -> None:
    """Also not at the end of the component."""
    with structlog.testing.capture_logs() as lines:
        progress = ProgressLines("trainer", EVERY_S)
        progress.idle()
        progress.handled(outcome())
        progress.idle()
        assert lines == []
        time.sleep(EVERY_S)
        for _ in range(3):
            progress.idle()
        progress.close()
    assert logged(lines) == [line(handled=1)]


def test_what_was_not_committed_is_no_work() -> None:
    """A skipped message is none of this component's."""
    with structlog.testing.capture_logs() as lines:
        progress = ProgressLines("trainer", EVERY_S)
        progress.handled(outcome(SKIPPED))
        progress.close()
    assert lines == []


def test_a_pause_does_not_count_into_the_rate() -> None:
    """Work that begins after hours is not logged at its first message."""
    with structlog.testing.capture_logs() as lines:
        progress = ProgressLines("trainer", EVERY_S)
        time.sleep(2 * EVERY_S)
        for _ in range(5):
            progress.handled(outcome())
        assert lines == []
        progress.close()
    assert lines[0]["per_s"] > 5 / EVERY_S
