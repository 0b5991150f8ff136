"""A guest: a program that opens roots and is no component, so that it has a stream of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from roomgrad.errors import DecodeError, SettingsError, format_value
from roomgrad.names import encoded
from roomgrad.rooms import MessageType

_FORWARD, _GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value
_WORDS = 4  # name, enter, leave, TYPE
_NAME = re.compile(r"[A-Za-z0-9_.~-]{1,128}")


@dataclass(frozen=True, slots=True)
class Guest:
    """Where a root ends: with a guest, which takes what would reach two of the rooms.

    A message has it in an entry field GUEST, and its replies inherit it.
    """

    name: str
    enter: str
    """The room in which the guest opened the root, and in which its gradient comes home."""

    leave: str
    """The room in which its answer arrives."""

    answer: str = _FORWARD
    """The TYPE of the answer."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingsError(
                f"guest {format_value(self.name)}: expected 1 to 128 letters, digits, _ . ~ or -"
            )

    def receives(self, room: str, type_: str) -> bool:
        """Return whether a message goes to the guest, and not into its room."""
        return (room == self.leave and type_ == self.answer) or (
            room == self.enter and type_ == _GRADIENT
        )

    def to_text(self) -> bytes:
        """Return the value of the entry field: the four words with a space between them."""
        return " ".join((self.name, encoded(self.enter), encoded(self.leave), self.answer)).encode()


@lru_cache(maxsize=256)
def from_text(text: bytes) -> Guest:
    """Return the guest of an entry field. Raises DecodeError."""
    value = text.decode(errors="replace")
    words = value.split(" ")
    if len(words) != _WORDS or not _NAME.fullmatch(words[0]):
        raise DecodeError(
            f"GUEST: expected a name, two rooms and a TYPE, got {format_value(value)}"
        )
    name, enter, leave, answer = words
    return Guest(name, unquote(enter), unquote(leave), answer)
