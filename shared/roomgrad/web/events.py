"""Server-sent events: every event is all that the page shows, so that none has to be repeated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

HEARTBEAT_S = 10.0
MOST_STREAMS = 200


class Events:
    """The newest snapshot, and who waits for the next. Threads may call `publish` and `close`.

    came: called when a page connects, as there may be news that nobody wanted to hear before.
    """

    def __init__(self, came: Callable[[], None]) -> None:
        self.closed = False
        self._came = came
        self.newest = b""
        self._number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rings: set[asyncio.Event] = set()

    @property
    def listeners(self) -> int:
        """How many pages are connected."""
        return len(self._rings)

    def publish(self, snapshot: bytes) -> None:
        """Tells everybody, unless nothing has changed."""
        if snapshot != self.newest:
            self.newest = snapshot
            self._number += 1
            self._wake()

    def close(self) -> None:
        """Ends all streams."""
        self.closed = True
        self._wake()

    async def stream(self) -> AsyncIterator[bytes]:
        """What one connected page gets, until it leaves or the streams are closed."""
        self._loop = asyncio.get_running_loop()
        ring = asyncio.Event()
        self._rings.add(ring)
        self._came()
        try:
            yield b"retry: 500\n\n"
            sent = 0
            while not self.closed:
                ring.clear()
                if self._number != sent:
                    sent = self._number
                    yield b"id: %d\nevent: state\ndata: %b\n\n" % (sent, self.newest)
                    continue
                try:
                    await asyncio.wait_for(ring.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._rings.discard(ring)

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
                loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        for ring in self._rings:
            ring.set()
