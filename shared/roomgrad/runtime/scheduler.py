"""Delayed messages: when the next one is due, and their delivery."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import structlog

from roomgrad import scripts
from roomgrad.component import Component
from roomgrad.names import LOGGING, Names
from roomgrad.redis.connection import Connection, ReplyError, packed
from roomgrad.redis.roots import inbox_stream
from roomgrad.rooms import MessageType
from roomgrad.runtime.dead_letters import ERROR_STREAM

log = structlog.get_logger("roomgrad")

MAX_DELIVERED = 100  # messages that one call of the script delivers, while other commands wait


class Scheduler:
    """The alarm of one replica: the loop sets it, housekeeping waits for it and delivers.

    Delayed messages are stored in Redis alone. Each replica of a component learns when one is due,
    from its own commits or with a heartbeat; the first delivers it, and the others find nothing.
    """

    def __init__(self, names: Names, component: Component) -> None:
        self.due_key = names.later(component.name).encode()
        reports = {(LOGGING, MessageType.LOG_KPI.value), ERROR_STREAM.key}
        own = {inbox_stream(names, component.name).key}  # of timers
        streams = [names.stream(*key).encode() for key in component.reply_streams() | reports | own]
        keys = [self.due_key, names.later_bodies(component.name).encode(), *sorted(streams)]
        script = scripts.load("delayed").encode()
        count = b"%d" % len(keys)
        self._prefix = (b"EVAL", script, count, *keys)
        self._command = b""
        self._lock = threading.Lock()
        self._due = math.inf
        self._reason = ""
        self.wake: Callable[[], None] | None = None  # called when the alarm was moved forward

    @property
    def due(self) -> float:
        """When to deliver next, in seconds of `time.monotonic`; infinite if nothing is known."""
        return self._due

    def expect(self, in_s: float) -> None:
        """Set the alarm for a message that is due in so many seconds; never set it later.

        A reply to housekeeping may be older than what the loop has committed meanwhile, so that it
        must not move the alarm back. An alarm for nothing costs one call.
        """
        due = time.monotonic() + in_s
        with self._lock:
            if due >= self._due:
                return
            self._due = due
        if self.wake is not None:
            self.wake()

    def deliver(self, connection: Connection) -> None:
        """Deliver what is due, and set the alarm for the next message. Raises ReplyError."""
        with self._lock:  # before the call: what is committed from here on sets it again
            self._due = math.inf
        self._command = self._command or packed(
            *self._prefix, connection.publish_command, b"%d" % MAX_DELIVERED
        )
        reply = connection.call(self._command)
        if isinstance(reply, ReplyError):
            raise reply
        wait_ms, reason = reply
        if wait_ms >= 0:
            self.expect(wait_ms / 1000)
        self._log_once(reason.decode(errors="replace"))

    def _log_once(self, reason: str) -> None:
        """Log a reason once that a person has to remove; each heartbeat tries again."""
        if reason and reason != self._reason:
            log.error("a delayed message cannot be sent; trying again", reason=reason)
        self._reason = reason
