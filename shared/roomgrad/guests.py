"""A guest: a program that opens roots and is no component, so that it has a stream of its own."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from roomgrad.errors import DecodeError, format_value
from roomgrad.rooms import MessageType

_FORWARD, _GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value


class Guest(NamedTuple):
    """Who opened a root, and the ends of the root: what would arrive there goes to the guest."""

    name: str
    enter: str  # the room in which the root was opened, and its gradient comes home
    leave: str  # the room in which its answer arrives
    answer: str = _FORWARD  # the TYPE of the answer

    def receives(self, room: str, type_: str) -> bool:
        """Return whether a message goes to the guest, and not into its room."""
        return (room, type_) in ((self.leave, self.answer), (self.enter, _GRADIENT))

    def to_text(self) -> bytes:
        """Return the value of the entry field GUEST: four words, percent-encoded."""
        return " ".join(quote(word, safe="/@~") for word in self).encode()


@lru_cache(maxsize=256)
def from_text(text: bytes) -> Guest:
    """Return the guest of an entry field. Raises DecodeError."""
    words = [unquote(word) for word in text.decode(errors="replace").split(" ")]
    if len(words) != len(Guest._fields):
        raise DecodeError(f"GUEST: expected a name, two rooms and a TYPE, got {format_value(text)}")
    return Guest(*words)
