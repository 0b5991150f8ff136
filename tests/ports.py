"""Free ports in a row, for programs that take the next one if theirs is taken."""

from __future__ import annotations

import contextlib
import random
import socket

BELOW = (10_000, 32_000)  # outgoing connections get theirs from above (Linux: 32768 and more)


def neighbours(count: int = 1) -> int:
    """Return the first of `count` free ports in a row."""
    while True:
        first = random.randrange(*BELOW)
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
