"""Frames of the original: a header with the decimal length, then so many bytes of JSON."""

from __future__ import annotations

import asyncio

from roomgrad.errors import MessageError


class FrameError(MessageError):
    """Raised when it is not known any more where the next message begins."""


def length_of(header: bytes, most: int) -> int:
    """What a header announces. Raises FrameError for no number, and for more than `most` bytes."""
    text = header.strip()
    if not text.isdigit():
        raise FrameError(
            f"the header {header!r}: expected the length of the message as a decimal number, "
            f"filled up with spaces to {len(header)} bytes"
        )
    length = int(text)
    if length > most:
        raise FrameError(f"a message of {length} bytes: allowed are {most} (--max-message-mib)")
    return length


def framed(body: bytes, header_length: int) -> bytes:
    """Header and body. Raises MessageError for a body that the header cannot announce."""
    header = b"%-*d" % (header_length, len(body))
    if len(header) > header_length:
        raise MessageError(f"{len(body)} bytes, and a header of {header_length} to say so")
    return header + body


async def next_header(reader: asyncio.StreamReader, length: int, frame_s: float) -> bytes:
    """The next header, or nothing at the end. It may take any time to begin, and then `frame_s`.

    Raises FrameError for one that does not come to its end.
    """
    begun = await reader.read(length)
    return begun + await rest(reader, length - len(begun), frame_s) if begun else b""


async def rest(reader: asyncio.StreamReader, length: int, frame_s: float) -> bytes:
    """So many bytes. Raises FrameError when they do not come in time."""
    if not length:
        return b""
    try:
        async with asyncio.timeout(frame_s):
            return await reader.readexactly(length)
    except TimeoutError:
        raise FrameError(
            f"{length} bytes that are missing did not come within {frame_s:g} s (--frame-s)"
        ) from None
    except asyncio.IncompleteReadError as error:
        raise FrameError(
            f"it ended within a message: {len(error.partial)} of {length} bytes came"
        ) from None
