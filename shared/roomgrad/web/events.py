"""Server-sent events of which each holds the whole state of one topic.

A page that reconnects names the last event that it received, and gets only topics that have changed
since. sse-starlette would replace the lines that format an event and keep the connection alive, not
these states; and it ends streams by a hook in uvicorn's signal handlers, which are not used here.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable

HEARTBEAT_S = 10.0
MOST_STREAMS = 200


class Events:
    """The newest state of each topic, and the streams that wait for the next one.

    `publish` and `close` may be called from any thread. connected: called when a page connects.
    """

    def __init__(self, connected: Callable[[], None]) -> None:
        self.closed = False
        self._connected = connected
        self._epoch = secrets.token_hex(4)  # of this process; another one counts from 0 again
        self._number = 0
        self._states: dict[str, tuple[int, bytes]] = {}  # by topic: number of the event, data
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[asyncio.Event] = set()

    @property
    def listeners(self) -> int:
        """How many pages are connected."""
        return len(self._streams)

    @property
    def number(self) -> int:
        """The number of the newest event."""
        return self._number

    def publish(self, state: bytes, topic: str = "state") -> None:
        """Send a state to all streams, unless it equals the one before."""
        if self._states.get(topic, (0, b""))[1] != state:
            self._number += 1
            self._states[topic] = (self._number, state)
            self._notify()

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._notify()

    async def stream(self, last_id: str = "") -> AsyncGenerator[bytes]:
        """Yield the events of one page until it disconnects or `close` is called.

        last_id: the `Last-Event-ID` of the request; may be any text.
        """
        self._loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        self._streams.add(changed)
        self._connected()
        try:
            yield b"retry: 500\n\n"
            sent = self._resume_after(last_id)
            while not self.closed:
                changed.clear()
                states = list(self._states.items())
                new = sorted((*state, topic) for topic, state in states if state[0] > sent)
                for sent, state, topic in new:
                    head = f"id: {self._epoch}-{sent}\nevent: {topic}\ndata: "
                    yield head.encode() + state + b"\n\n"
                if new:
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._streams.discard(changed)

    def _resume_after(self, last_id: str) -> int:
        epoch, _, number = last_id.partition("-")
        known = epoch == self._epoch and number.isdecimal() and len(number) < 16
        return int(number) if known else 0

    def _notify(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for changed in self._streams:
            changed.set()
