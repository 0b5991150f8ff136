"""Keys of a person at a terminal, or lines if standard input is no terminal."""

from __future__ import annotations

import os
import select
import sys
import time
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

ESC = "\x1b"
ENDS = ("q", "\x04", ESC)  # Ctrl+D and Esc mean the same as q
BYTES = 4096


@dataclass(frozen=True)
class Key:
    """A key, or a line."""

    text: str

    @property
    def quits(self) -> bool:
        return self.text in ENDS


END = Key("q")


class Keys(Protocol):
    """A source of a person's keys."""

    def next(self, seconds: float) -> Key | None:
        """Return the next key, or None if none came in time."""

    def next_of(self, wanted: Collection[str], seconds: float) -> Key | None:
        """Return the next key if it is wanted or quits; None if it is another, or none came."""


@contextmanager
def source() -> Iterator[Keys]:
    """Yield the keys of standard input."""
    if sys.stdin.isatty():
        with _unbuffered() as descriptor:
            yield Terminal(descriptor)
    else:
        yield Lines(sys.stdin.fileno())


class Terminal:
    """Keys as they are pressed; `next_of` discards keys that are not wanted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pressed: list[Key] = []

    def next(self, seconds: float) -> Key | None:
        """Return the next key, or None if none came in time."""
        if not self._pressed:
            if not _readable(self._descriptor, seconds):
                return None
            text = _plain(os.read(self._descriptor, BYTES))
            # Arrow keys and the like arrive as several characters, the first of which is Esc.
            self._pressed = [Key(each) for each in ([text] if text[:1] == ESC else text)] or [END]
        return self._pressed.pop(0)

    def next_of(self, wanted: Collection[str], seconds: float) -> Key | None:
        """Return the next key if it is wanted or quits; None if it is another, or none came."""
        key = self.next(seconds)
        return key if key is not None and (key.quits or key.text in wanted) else None


class Lines:
    """Lines of a file or a pipe, each treated as a key; the end of the input quits."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._ended = False
        self._ahead: Key | None = None

    def next(self, seconds: float) -> Key | None:
        """Return the next line that is not blank, or None if none came in time."""
        key = self._peek(seconds)
        self._ahead = None
        return key

    def next_of(self, wanted: Collection[str], seconds: float) -> Key | None:
        """Return the next line if it is wanted or quits; keep any other line for `next`."""
        early = self._ahead is not None
        key = self._peek(seconds)
        if key is None or key.quits or key.text in wanted:
            self._ahead = None
            return key
        if early:
            time.sleep(seconds)
        return None

    def _peek(self, seconds: float) -> Key | None:
        while self._ahead is None:
            line, found, rest = self._rest.partition(b"\n")
            if found or (self._ended and line):
                self._rest = rest
                text = _plain(line).strip()
                self._ahead = Key(text) if text else None
            elif self._ended:
                return END
            elif not _readable(self._descriptor, seconds):
                return None
            else:
                data = os.read(self._descriptor, BYTES)
                self._rest += data
                self._ended = not data
        return self._ahead


@contextmanager
def _unbuffered() -> Iterator[int]:
    """Deliver keys as they are pressed, without echo; Ctrl+C still interrupts."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _plain(data: bytes) -> str:
    """Return what was typed in small letters, and digits of any script as 0 to 9."""
    text = unicodedata.normalize("NFKC", data.decode(errors="replace")).lower()
    return "".join(str(unicodedata.decimal(each, each)) for each in text)


def _readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])
