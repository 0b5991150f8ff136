"""swergio's frames: a header with the length as a decimal number, then as many bytes of JSON."""

from __future__ import annotations

import asyncio

from roomgrad.errors import MessageError


class FrameError(MessageError):
    """Raised when the beginning of the next message cannot be found any more."""


def length_of(header: bytes, max_bytes: int) -> int:
    """Return the length in a header. Raises FrameError if it is no number or too large."""
    text = header.strip()
    if not text.isdigit():
        raise FrameError(
            f"the header {header!r}: expected the length of the message as a decimal number, "
            f"filled up with spaces to {len(header)} bytes"
        )
    length = int(text)
    if length > max_bytes:
        raise FrameError(
            f"a message of {length} bytes: allowed are {max_bytes} (--max-message-mib)"
        )
    return length


def framed(body: bytes, header_length: int) -> bytes:
    """Return header and body. Raises MessageError if the header is too short for the length."""
    header = b"%-*d" % (header_length, len(body))
    if len(header) > header_length:
        raise MessageError(f"{len(body)} bytes do not fit into a header of {header_length} bytes")
    return header + body


async def next_header(reader: asyncio.StreamReader, length: int, frame_s: float) -> bytes:
    """Return the next header, or nothing at the end of the connection.

    Wait any time for its first byte, and `frame_s` for the rest. Raises FrameError if it is
    incomplete then.
    """
    begun = await reader.read(length)
    return begun + await rest(reader, length - len(begun), frame_s) if begun else b""


async def rest(reader: asyncio.StreamReader, length: int, frame_s: float) -> bytes:
    """Return the next `length` bytes. Raises FrameError if they do not arrive in time."""
    if not length:
        return b""
    try:
        async with asyncio.timeout(frame_s):
            return await reader.readexactly(length)
    except TimeoutError:
        raise FrameError(
            f"{length} missing bytes did not arrive within {frame_s:g} s (--frame-s)"
        ) from None
    except asyncio.IncompleteReadError as error:
        raise FrameError(
            f"it ended within a message: {len(error.partial)} of {length} bytes arrived"
        ) from None
