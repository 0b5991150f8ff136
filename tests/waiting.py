"""Waiting for what Redis has no blocking command for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(condition: Callable[[], Found], timeout_s: float = 10.0, every_s: float = 0.005) -> Found:
    """Looks until something holds, and answers it."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"did not happen within {timeout_s} s"
        time.sleep(every_s)
    return found
