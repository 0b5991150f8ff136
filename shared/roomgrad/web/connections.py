"""Connections of browsers: so many at a time, and each has to ask and to listen in time."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 500
MOST_HEADER_BYTES = 32 * 1024  # of the first line of a request and its headers
REQUEST_S = 10.0  # within which a request has to be there, with its body
FROZEN_S = 60.0  # without taking anything, after which a connection ends

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n"
    b"retry-after: 5\r\n\r\n"
)


class Connection(H11Protocol):
    """One connection. Who is too slow is left; who is one too many is told so."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._asking: asyncio.TimerHandle | None = None
        self._frozen: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.write(_FULL)
            transport.close()
        else:
            self._expect()

    def data_received(self, data: bytes) -> None:
        """A piece of a request: the rest of it is waited for, or there is none."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect()
        else:
            self._asking = _cancel(self._asking)

    def pause_writing(self) -> None:
        """It does not take what it is sent."""
        super().pause_writing()
        self._frozen = self._frozen or self.loop.call_later(FROZEN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes some again."""
        super().resume_writing()
        self._frozen = _cancel(self._frozen)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._asking, self._frozen = _cancel(self._asking), _cancel(self._frozen)
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._asking = self._asking or self.loop.call_later(REQUEST_S, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Stops a timer; answers what stands in its place, nothing."""
    if timer is not None:
        timer.cancel()
    return None
