"""Waiting for what Redis has no blocking command for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

# Long enough for a machine that is busy with other work; a test that passes never waits so long.
LIMIT_S = 60.0
STALL_S = 1.0  # what a step of waiting counts for at most: a machine may stand still for a minute


def until(
    condition: Callable[[], Found], timeout_s: float = LIMIT_S, every_s: float = 0.005
) -> Found:
    """Return the first true result of `condition`; fail if there is none in time."""
    waited_s, now = 0.0, time.monotonic()
    while not (found := condition()):
        assert waited_s < timeout_s, f"did not happen within {timeout_s} s"
        time.sleep(every_s)
        before, now = now, time.monotonic()
        waited_s += min(now - before, STALL_S)
    return found
