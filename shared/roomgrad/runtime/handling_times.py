"""When a message was handled, as the one knows who sent the reply: the entry field `times`.

The server's clock has milliseconds only, in the entry ids; a hop takes less than one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(rb"(\d{1,20}-\d{1,20}) (\d{1,18}) (-?\d{1,15}) (-?\d{1,15}) (-?\d{1,15})")


def written(answers: str, delivered_ns: int, began_ns: int, ended_ns: int, sent_ns: int) -> bytes:
    """The field: the entry that is answered, when it was delivered, and what came how much later.

    All in microseconds of the sender's clock.
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
    """The field read. `delivered` is in us of Unix time; the others are us after it."""

    answers: str
    """The entry id of the message that was handled."""

    delivered: int
    began: int
    """When its handler was called: until then it was decoded."""

    ended: int
    """When its handler returned."""

    sent: int
    """When its commit left: until then the replies were encoded, and the model was stepped."""

    @classmethod
    def read(cls, text: bytes) -> Times | None:
        """None for anything else: whoever writes to a stream may write what they like."""
        found = _FORM.fullmatch(text)
        return cls(found[1].decode(), *map(int, found.groups()[1:])) if found else None

    @property
    def sent_at(self) -> int:
        """In us of Unix time."""
        return self.delivered + self.sent
