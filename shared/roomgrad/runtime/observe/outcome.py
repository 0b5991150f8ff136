"""What became of one message in the hands of a replica."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from roomgrad.messages import Message
from roomgrad.runtime.consumers import Delivery
from roomgrad.runtime.work import Attempt

COMMITTED = "committed"
SKIPPED = "skipped"  # no handler wanted it
GONE = "gone"  # somebody else committed it meanwhile
RETRIED = "retried"  # the handler raised, it is tried again later
DEAD = "dead"  # it went to the dead letters
OUTCOMES = (COMMITTED, SKIPPED, GONE, RETRIED, DEAD)


@dataclass(slots=True)
class Outcome:
    """One message that was handled, as far as it came."""

    delivery: Delivery
    began_ns: int = field(default_factory=time.time_ns)
    outcome: str = ""
    """One of `OUTCOMES`; empty while it is handled, and for ever where the server was lost."""

    message: Message | None = None
    """None where it could not be decoded."""

    attempt: Attempt | None = None
    """What its handlers wanted; None where they failed, or nobody wanted it."""

    reason: str = ""
    """Why it was not committed."""

    @property
    def handler_s(self) -> float:
        """Seconds in its handlers; where they failed, from the beginning until now."""
        if self.attempt is not None:
            return (self.attempt.ended_ns - self.attempt.began_ns) / 1e9
        return (time.time_ns() - self.began_ns) / 1e9 if self.outcome != SKIPPED else 0.0

    @property
    def sent(self) -> list[Message]:
        """What it brought about, now and later; nothing unless it was committed."""
        if self.attempt is None or self.outcome != COMMITTED:
            return []
        return [*self.attempt.messages, *(later for _, later in self.attempt.context.later)]


class Observer(Protocol):
    """Is told of each message. Whatever it raises is logged, and hurts nobody."""

    def handled(self, done: Outcome) -> None: ...

    def sent(self, messages: Sequence[Message]) -> None:
        """What a component said that speaks first."""

    def close(self) -> None: ...
