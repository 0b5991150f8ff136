"""What both ends of every flood have: numbered arrays, a start, and a count of what came."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import redis

from tests.waiting import until

SINK, SOURCES = "sink", tuple(f"source-{number}" for number in range(4))
FLOOD = "flood"
QUIET_S = 1.0  # without a message, then it is over
NOBODY_S = 30.0


class Heard:
    """Which numbers came, and when."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._numbers: set[int] = set()
        self._times = 0
        self._first = self._last = 0.0
        self._done = threading.Event()

    def add(self, array: Any) -> None:
        """One has come."""
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._numbers.add(int(array.flat[0]))
        self._times += 1
        if len(self._numbers) == self._expected:
            self._done.set()

    def tell_at_the_end(self) -> None:
        """Prints it from a thread of its own, and goes on listening."""
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        began = time.monotonic()
        while not self._done.wait(0.1):
            now = time.monotonic()
            if (now - self._last > QUIET_S) if self._last else (now - began > NOBODY_S):
                break
        different, seconds = len(self._numbers), self._last - self._first
        found = {"heard": different, "twice": self._times - different, "seconds": seconds}
        print(json.dumps(found), flush=True)


def array(number: int) -> Any:
    """A hundred pairs, the first of which is the number."""
    made = np.arange(200, dtype="<f4").reshape(100, 2)
    made[0, 0] = number
    return made


def some(numbers: range, at_once: int) -> Iterator[range]:
    """Yield the numbers in pieces."""
    for first in range(numbers.start, numbers.stop, at_once):
        yield range(first, min(first + at_once, numbers.stop))


def meet(url: str, senders: int, *, listened: bool = False) -> None:
    """Wait until so many senders are there, and a subscriber if nothing is kept for it."""
    with redis.Redis.from_url(url, protocol=2) as client:
        client.incr("senders")
        until(lambda: int(client.get("senders") or b"0") >= senders, timeout_s=NOBODY_S)
        if listened:
            until(lambda: dict(client.pubsub_numsub(FLOOD))[FLOOD.encode()], timeout_s=NOBODY_S)
