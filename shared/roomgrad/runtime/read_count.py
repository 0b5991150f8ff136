"""How many of the messages that wait a replica reads at once."""

from __future__ import annotations

MOST = 16
GROUP_S = (
    0.004  # what a read takes on: other replicas could handle it meanwhile, and a kill redo it
)
GROUP_BYTES = 1024 * 1024
_KEPT = 0.8  # of the longest time and the largest size, with each message that follows


class ReadCount:
    """As many messages as have, by the slowest and largest of late, `GROUP_S` and `GROUP_BYTES`.

    A slow or large one makes it 1 at once; it grows again within some tens of messages. It stays 1
    if a message may be delivered once: a replica that is killed has not tried all that it has read.
    """

    def __init__(self, max_deliveries: int) -> None:
        self._most = MOST if max_deliveries > 1 else 1
        self._seconds, self._bytes = GROUP_S, 1.0

    @property
    def next(self) -> int:
        """The COUNT of the next read."""
        return max(1, int(min(self._most, GROUP_S / self._seconds, GROUP_BYTES / self._bytes)))

    def note(self, seconds: float, size: int) -> None:
        """Note how long a message took until its commit was sent, and how many bytes it has."""
        self._seconds = max(seconds, self._seconds * _KEPT)
        self._bytes = max(size, self._bytes * _KEPT)
