"""When a message was handled: the entry field `times`, which the sender of the reply writes.

Entry ids hold the server's clock in milliseconds only; handling takes less than one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(rb"(\d{1,20}-\d{1,20}) (\d{1,18}) (-?\d{1,15}) (-?\d{1,15}) (-?\d{1,15})")


def format_times(
    answers: str, delivered_ns: int, began_ns: int, ended_ns: int, sent_ns: int
) -> bytes:
    """Return the field: the entry that is answered, when it was delivered, and what followed.

    The first time is in us of Unix time by the server's clock; the others are us after it.
    """
    return b"%b %d %d %d %d" % (
        answers.encode(),
        delivered_ns // 1000,
        (began_ns - delivered_ns) // 1000,
        (ended_ns - delivered_ns) // 1000,
        (sent_ns - delivered_ns) // 1000,
    )


@dataclass(frozen=True)
class Times:
    """The parsed field. `delivered` is in us of Unix time; the others are us after it."""

    answers: str
    """The entry id of the message that was handled."""

    delivered: int
    began: int
    """When its handler was called, after decoding."""

    ended: int
    """When its handler returned."""

    sent: int
    """When its commit was sent, after the replies were encoded and the model was stepped."""

    @classmethod
    def read(cls, text: bytes) -> Times | None:
        """Parse the field. Return None for anything else, since any client may write an entry."""
        found = _FORM.fullmatch(text)
        return cls(found[1].decode(), *map(int, found.groups()[1:])) if found else None

    @property
    def sent_at(self) -> int:
        """In us of Unix time."""
        return self.delivered + self.sent
