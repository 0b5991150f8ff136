"""Unix time by the server's clock, which is the same for every process of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis


class ServerClock:
    """Unix time by the server's clock, read now and then, and a monotonic clock in between.

    A jump of this machine's clock changes nothing, and ages that are computed from two machines'
    times are right. Until the first reading it shows the time of this machine.
    """

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()  # noqa: TID251

    def read(self, call: Callable[[list[bytes]], Any]) -> None:
        """Compare with the server's clock. call: sends a command and returns its reply."""
        sent_ns = time.monotonic_ns()
        reply = call([b"TIME"])
        if isinstance(reply, Exception):
            raise reply
        self.adjust(reply, sent_ns)

    def adjust(self, reply: Sequence[Any], sent_ns: int) -> None:
        """Compare with the reply to TIME, which was sent at `sent_ns` of the monotonic clock.

        The server read its clock at some moment between then and now. An offset that agrees with
        this stays, so that slow replies do not shift it.
        """
        server_ns = int(reply[0]) * 1_000_000_000 + int(reply[1]) * 1000
        lowest, highest = server_ns - time.monotonic_ns(), server_ns - sent_ns
        self._offset_ns = min(max(self._offset_ns, lowest), highest)

    def unix_ns(self, monotonic_ns: int) -> int:
        """Return the Unix time in ns of a moment of `time.monotonic_ns()`."""
        return monotonic_ns + self._offset_ns

    def unix_s(self, monotonic_s: float) -> float:
        """Return the Unix time in seconds of a moment of `time.monotonic()`."""
        return monotonic_s + self._offset_ns / 1e9

    def time(self) -> float:
        """Return the Unix time in seconds, as `time.time()` does."""
        return self.unix_s(time.monotonic())


def server_time(client: redis.Redis) -> float:
    """Return the time of the server's clock in Unix seconds."""
    moment: Any = client.time()
    return float(moment[0] + moment[1] / 1e6)
