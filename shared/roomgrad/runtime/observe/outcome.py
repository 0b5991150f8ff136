"""The outcome of one message that a replica handled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from roomgrad.messages import Message
from roomgrad.runtime.consumers import Delivery
from roomgrad.runtime.work import Attempt

COMMITTED = "committed"
SKIPPED = "skipped"  # no handler accepted it
GONE = "gone"  # another replica committed it meanwhile
RETRIED = "retried"  # the handler raised; the message is redelivered later
DEAD = "dead"  # it became a dead letter
OUTCOMES = (COMMITTED, SKIPPED, GONE, RETRIED, DEAD)


@dataclass(slots=True)
class Outcome:
    """One message and how far its handling came."""

    delivery: Delivery
    began_ns: int = field(default_factory=time.monotonic_ns)
    outcome: str = ""
    """One of `OUTCOMES`; empty until then, and if the connection to the server was lost."""

    message: Message | None = None
    """None if it could not be decoded."""

    attempt: Attempt | None = None
    """What its handlers staged; None if they failed, or if none accepted the message."""

    reason: str = ""
    """Why it was not committed."""

    @property
    def handler_s(self) -> float:
        """Seconds in the handlers; if they failed, seconds from the beginning until now."""
        if self.attempt is not None:
            return (self.attempt.ended_ns - self.attempt.began_ns) / 1e9
        return (time.monotonic_ns() - self.began_ns) / 1e9 if self.outcome != SKIPPED else 0.0

    @property
    def sent(self) -> list[Message]:
        """The messages that its commit sent or scheduled; empty if it was not committed."""
        if self.attempt is None or self.outcome != COMMITTED:
            return []
        return self.attempt.sent


class Observer(Protocol):
    """Observes each message of a replica. What its methods raise is logged and ignored."""

    def handled(self, outcome: Outcome) -> None:
        """Observe a message after its handling."""

    def sent(self, messages: Sequence[Message]) -> None:
        """Observe the messages that a component sends when a run begins."""

    def close(self) -> None:
        """Release what is held; the replica ends."""
