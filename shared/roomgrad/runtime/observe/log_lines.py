"""One log line a message, at debug only."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from roomgrad.messages import Message
from roomgrad.runtime.observe.outcome import Outcome

log = structlog.get_logger("roomgrad")


class Lines:
    """Writes what became of each message."""

    def handled(self, done: Outcome) -> None:
        room, type_ = done.delivery.stream.key
        log.debug(
            "handled",
            room=room,
            type=type_,
            id=done.delivery.message_id(),
            root_id=done.delivery.root_id(),
            outcome=done.outcome,
            handler_ms=round(done.handler_s * 1000, 3),
            **({"reason": done.reason} if done.reason else {}),
        )

    def sent(self, messages: Sequence[Message]) -> None:
        """What is said first is handled by somebody else, who writes it down."""

    def close(self) -> None:
        """Nothing is open."""
