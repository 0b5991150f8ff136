"""Messages that were staged for later: when the next one is due, and their delivery."""

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
from roomgrad.rooms import MessageType
from roomgrad.runtime.dead_letters import ERROR_STREAM

log = structlog.get_logger("roomgrad")

MOST = 100  # messages that one call of the script delivers; others have to wait for it


class Scheduler:
    """The alarm clock of one replica. The loop sets it, the keeper waits for it and delivers.

    What is due stands in Redis alone. Each replica of a component hears of it, from its own commits
    or with a heartbeat, and whoever comes first delivers it; for the others nothing is left.
    """

    def __init__(self, names: Names, component: Component) -> None:
        self.dues = names.later(component.name).encode()
        reports = {(LOGGING, MessageType.LOG_KPI.value), ERROR_STREAM.key}
        streams = [names.stream(*key).encode() for key in component.reply_streams() | reports]
        keys = [self.dues, names.later_bodies(component.name).encode(), *sorted(streams)]
        script = scripts.load("delayed").encode()
        count = b"%d" % len(keys)
        self._words = (b"EVAL", script, count, *keys)
        self._command = b""
        self._lock = threading.Lock()
        self._due = math.inf
        self._reason = ""
        self.wake: Callable[[], None] | None = None  # called when the alarm was set earlier

    @property
    def due(self) -> float:
        """When to deliver next, as `time.monotonic` counts; infinite when nothing is known."""
        return self._due

    def expect(self, in_s: float) -> None:
        """A message is due in so many seconds. Only ever sets the alarm earlier.

        The keeper's answer may be older than what the loop has committed meanwhile, so that it
        must not put the alarm off; an alarm for nothing costs one call.
        """
        due = time.monotonic() + in_s
        with self._lock:
            if due >= self._due:
                return
            self._due = due
        if self.wake is not None:
            self.wake()

    def deliver(self, wire: Connection) -> None:
        """Delivers what is due and sets the alarm for the next. Raises a server's error."""
        with self._lock:  # before the call: what is staged from here on sets it again
            self._due = math.inf
        self._command = self._command or packed(*self._words, wire.ring, b"%d" % MOST)
        reply = wire.call(self._command)
        if isinstance(reply, ReplyError):
            raise reply
        wait_ms, reason = reply
        if wait_ms >= 0:
            self.expect(wait_ms / 1000)
        self._complain(reason.decode(errors="replace"))

    def _complain(self, reason: str) -> None:
        """Says once what a person has to mend; each heartbeat tries again."""
        if reason and reason != self._reason:
            log.error("a message that is due cannot be sent; trying again", reason=reason)
        self._reason = reason
