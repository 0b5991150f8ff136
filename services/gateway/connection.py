"""The connection of one swergio client: its socket, its name, and its rooms."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from roomgrad.errors import MessageError
from roomgrad.messages import new_id

from . import codec, frames
from .settings import GatewaySettings

if TYPE_CHECKING:
    from .subscriptions import Subscription

log = structlog.get_logger("roomgrad")

MAX_BUFFERED = 256 * 1024  # unsent bytes above which a client gets nothing more for now
QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class Connection:
    """A client from its connection to its end.

    name: empty until it has registered. raw_name: the name as the client writes it, with a token.
    ended: why the connection ended. missed: how many messages of live rooms it was too slow for.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: GatewaySettings,
    ) -> None:
        self.id = new_id()[:16]
        self.name = ""
        self.raw_name = ""
        self.rooms: set[str] = set()
        self.subscription: Subscription | None = None
        self.missed = 0
        self.ended = ""
        self._reader, self._writer, self._settings = reader, writer, settings
        self._free_at = 0.0  # time of the loop when the next message may be read
        self._register_until = asyncio.get_running_loop().time() + settings.handshake_s
        writer.transport.set_write_buffer_limits(high=MAX_BUFFERED)
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._keep_alive()
        peer = writer.get_extra_info("peername") or ("a socket", 0)
        self.host, self.peer = str(peer[0]), f"{peer[0]}:{peer[1]}"

    def _keep_alive(self) -> None:
        """Let the system notice a machine that was lost without closing its connections."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if (number := getattr(socket, option, None)) is not None:
                self._socket.setsockopt(socket.IPPROTO_TCP, number, value)

    def __str__(self) -> str:
        return f"{self.name} ({self.peer})" if self.name else self.peer

    # from the client

    async def next(self) -> bytes:
        """Return the next body, or nothing once the client has disconnected.

        Raises FrameError if the bytes are not a frame, or arrive too late.
        """
        settings = self._settings
        header = await self._header()
        if not header:
            return b""
        self._acknowledge()
        length = frames.length_of(header, settings.max_bytes)
        body = await frames.rest(self._reader, length, settings.frame_s)
        self._acknowledge()
        return body or b" "  # an empty body is not the end of the connection

    async def throttle(self) -> None:
        """Wait until the next message may be read; a burst of one second is allowed."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - 1.0) + 1 / self._settings.max_per_s
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)

    async def _header(self) -> bytes:
        length, frame_s = self._settings.header_length, self._settings.frame_s
        until = None if self.name else self._register_until
        try:
            async with asyncio.timeout_at(until):
                return await frames.next_header(self._reader, length, frame_s)
        except TimeoutError:
            raise frames.FrameError(
                f"no REGISTER within {self._settings.handshake_s:g} s (--handshake-s)"
            ) from None

    def _acknowledge(self) -> None:
        """Acknowledge received bytes at once: swergio's client waits for that after each header.

        The system leaves this mode by itself, so it is set again for each part of a frame.
        """
        if QUICKACK is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    # to the client

    def write(self, body: Mapping[str, Any]) -> bool:
        """Send a body; return False if it cannot be encoded for a client of these settings."""
        try:
            text = codec.encode(body, self._settings.format)
            data = frames.framed(text, self._settings.header_length)
        except (MessageError, UnicodeError, TypeError, ValueError) as error:
            log.warning("a message cannot be encoded for a client", to=str(self), reason=str(error))
            return False
        if not self._writer.is_closing():
            self._writer.write(data)
        return True

    def write_live(self, body: Mapping[str, Any]) -> None:
        """Send a message of a live room, unless the client is too slow for it."""
        if not self.is_full:
            self.write(body)
            return
        self.missed += 1
        if self.missed == 1:
            log.warning("a client is too slow for a live room, and misses messages", to=str(self))

    @property
    def is_full(self) -> bool:
        """Whether the client is too slow for what it is sent."""
        return self._writer.transport.get_write_buffer_size() > MAX_BUFFERED

    async def drained(self) -> None:
        """Wait until the client has taken most of what it was sent; end a frozen one."""
        try:
            async with asyncio.timeout(self._settings.frozen_s):
                await self._writer.drain()
        except TimeoutError:
            self.end(f"it has taken nothing for {self._settings.frozen_s:g} s (--frozen-s)")
        except OSError:
            self.end("the connection is lost")

    def end(self, reason: str) -> None:
        """Close the connection at once, and drop unsent bytes."""
        if not self.ended:
            self.ended = reason
            self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection, and send the rest if that takes less than a second."""
        self._writer.close()
        try:
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
