"""The request to stop, which a signal handler may set."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class ShutdownEvent:
    """An event that a signal handler may set.

    In contrast to `threading.Event`: its lock is not reentrant, so that a handler that interrupts
    `wait` in the same thread could wait for that lock without end. `SimpleQueue.put` is reentrant.
    """

    def __init__(self) -> None:
        self._set = False
        self._queue: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """End every wait, now and later."""
        self._set = True
        self._queue.put(None)

    def is_set(self) -> bool:
        """Return whether the event was set."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds; return whether the event is set. For one thread."""
        if not self._set:
            with contextlib.suppress(Empty):
                self._queue.get(timeout=seconds)
        return self._set
