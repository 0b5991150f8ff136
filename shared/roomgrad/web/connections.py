"""Connections of browsers: at most so many at a time, and none that is too slow.

uvicorn's `limit_concurrency` refuses requests, but holds any number of silent connections; and it
has no limit for a client that sends half a request or reads nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 500
MOST_HEADER_BYTES = 32 * 1024  # of the request line and the headers
REQUEST_S = 10.0  # within which a request has to be complete, with its body
FROZEN_S = 60.0  # without reading anything, after which a connection is closed

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n"
    b"retry-after: 5\r\n\r\n"
)


class Connection(H11Protocol):
    """One connection. It is closed if the client is too slow, or if there are too many."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._request_timer: asyncio.TimerHandle | None = None
        self._frozen_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first request, or answer 503 if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_FULL)
            transport.close()
        else:
            self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request; keep the time limit until the request is complete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect_request()
        else:
            self._request_timer = _cancel(self._request_timer)

    def pause_writing(self) -> None:
        """Start the time limit of a client that does not read."""
        super().pause_writing()
        abort = self.transport.abort
        self._frozen_timer = self._frozen_timer or self.loop.call_later(FROZEN_S, abort)

    def resume_writing(self) -> None:
        """Stop that time limit: the client reads again."""
        super().resume_writing()
        self._frozen_timer = _cancel(self._frozen_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all time limits."""
        self._request_timer = _cancel(self._request_timer)
        self._frozen_timer = _cancel(self._frozen_timer)
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        abort = self.transport.abort
        self._request_timer = self._request_timer or self.loop.call_later(REQUEST_S, abort)


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; return what replaces it, None."""
    if timer is not None:
        timer.cancel()
    return None
