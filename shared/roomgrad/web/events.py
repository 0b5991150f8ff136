"""Server-sent events: each is all that a page shows of one topic, so that none has to be repeated.

A page that comes back gets what has changed meanwhile: it names the last event that it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable

HEARTBEAT_S = 10.0
MOST_STREAMS = 200


class Events:
    """The newest snapshot, and who waits for the next. Threads may call `publish` and `close`.

    came: called when a page connects, as there may be news that nobody wanted to hear before.
    """

    def __init__(self, came: Callable[[], None]) -> None:
        self.closed = False
        self._came = came
        self._instance = secrets.token_hex(4)  # another one counts from 0 again
        self._number = 0
        self._news: dict[str, tuple[int, bytes]] = {}  # by topic
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rings: set[asyncio.Event] = set()

    @property
    def listeners(self) -> int:
        """How many pages are connected."""
        return len(self._rings)

    @property
    def number(self) -> int:
        """Of the newest event."""
        return self._number

    def publish(self, snapshot: bytes, topic: str = "state") -> None:
        """Tells everybody, unless nothing has changed."""
        if self._news.get(topic, (0, b""))[1] != snapshot:
            self._number += 1
            self._news[topic] = (self._number, snapshot)
            self._wake()

    def close(self) -> None:
        """Ends all streams."""
        self.closed = True
        self._wake()

    async def stream(self, last_id: str = "") -> AsyncGenerator[bytes]:
        """What one connected page gets, until it leaves or the streams are closed.

        last_id: of the last event that it got before, or nothing.
        """
        self._loop = asyncio.get_running_loop()
        ring = asyncio.Event()
        self._rings.add(ring)
        self._came()
        try:
            yield b"retry: 500\n\n"
            sent = self._resumed(last_id)
            while not self.closed:
                ring.clear()
                news = [(*new, topic) for topic, new in list(self._news.items()) if new[0] > sent]
                for sent, snapshot, topic in sorted(news):
                    yield self._event(sent, snapshot, topic)
                if news:
                    continue
                try:
                    await asyncio.wait_for(ring.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._rings.discard(ring)

    def _resumed(self, last_id: str) -> int:
        instance, _, number = last_id.partition("-")
        known = instance == self._instance and number.isdecimal() and len(number) < 16
        return int(number) if known else 0

    def _event(self, number: int, snapshot: bytes, topic: str) -> bytes:
        head = f"id: {self._instance}-{number}\nevent: {topic}\ndata: "
        return head.encode() + snapshot + b"\n\n"

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
                loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        for ring in self._rings:
            ring.set()
