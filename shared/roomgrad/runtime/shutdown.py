"""The wish to stop, as a signal handler may utter it."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class ShutdownEvent:
    """An event that a signal handler may set.

    `threading.Event` may not: its lock is not reentrant, so a handler that interrupts `wait` in the
    same thread can wait for ever for the lock that it interrupted. `SimpleQueue.put` is reentrant.
    """

    def __init__(self) -> None:
        self._set = False
        self._bell: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ends every wait, now and later."""
        self._set = True
        self._bell.put(None)

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """Waits for so long at most; whether it is set. For one waiting thread."""
        if not self._set:
            with contextlib.suppress(Empty):
                self._bell.get(timeout=seconds)
        return self._set
