"""One log line per message, at level debug."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from roomgrad.messages import Message
from roomgrad.runtime.observe.outcome import Outcome

log = structlog.get_logger("roomgrad")


class Lines:
    """Logs the outcome of each message."""

    def handled(self, outcome: Outcome) -> None:
        """Log one line."""
        room, type_ = outcome.delivery.stream.key
        log.debug(
            "handled",
            room=room,
            type=type_,
            id=outcome.delivery.message_id(),
            root_id=outcome.delivery.root_id(),
            outcome=outcome.outcome,
            handler_ms=round(outcome.handler_s * 1000, 3),
            **({"reason": outcome.reason} if outcome.reason else {}),
        )

    def sent(self, messages: Sequence[Message]) -> None:
        """Do nothing: the component that handles a message logs it."""

    def close(self) -> None:
        """Do nothing."""
