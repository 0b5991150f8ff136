"""Sends commits until the server has applied each, or has found that it no longer applies."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from roomgrad.commit import Commit
from roomgrad.errors import ConnectionLost
from roomgrad.redis import users
from roomgrad.redis.connection import Command, Reply, ReplyError
from roomgrad.runtime.connections import Connections, outcome
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.shutdown import ShutdownEvent
from roomgrad.runtime.status import Status

log = structlog.get_logger("roomgrad")

REFUSED_PAUSE_S = 1.0  # between two attempts of a commit that the server does not allow

OK = "ok"  # the commit was applied
GONE = "gone"  # another replica has committed the message
STALE = "stale"  # what a handler read has changed since
FULL = "full"  # it opens a root, and the server's memory is full
_DECIDED = frozenset({OK, GONE, STALE, FULL})


class Committed(NamedTuple):
    """What became of a commit."""

    outcome: str
    """OK, GONE, STALE or FULL."""

    guard: int = 0
    """The guard that failed, counted from 1; 0 for none."""

    entries: Sequence[bytes] = ()
    """The IDs of the entries that it added to streams, in the order in which they were staged."""


class Committer:
    """Sends commits, one at a time or each before the answer to the last."""

    def __init__(
        self,
        connections: Connections,
        shutdown: ShutdownEvent,
        scheduler: Scheduler,
        status: Status,
    ) -> None:
        self._connections = connections
        self._shutdown = shutdown
        self._scheduler = scheduler
        self._status = status

    def commit(self, commit: Commit, then_read: Sequence[Command] = ()) -> Committed:
        """Send a commit, and the next read in the same send; return what became of it.

        Raises as `decide` does.
        """
        return self.decide(commit, self._connections.commit(commit, then_read))

    def decide(self, commit: Commit, reply: Reply) -> Committed:
        """Return what became of a commit that was sent and has this reply.

        While the server refuses the commit, for example for want of a permission, it is sent again
        and again.

        Raises MessageError if no server would ever take it, and ConnectionLost.
        """
        while (result := self._result(reply)) not in _DECIDED:
            reply = self._connections.commit(commit)
        self._status.refused = ""
        if result == OK and commit.soonest_s < math.inf:  # may be before the next heartbeat
            self._scheduler.expect(commit.soonest_s)
        if result == STALE:
            return Committed(result, int(reply[1]))
        return Committed(result, entries=reply[1:] if result == OK else [])

    def wait(self, error: ReplyError) -> None:
        """Wait after the server has refused a read, as after a commit that it refused."""
        self._result(error)

    def _result(self, reply: Reply) -> str:
        """Return what became of a commit; if it may be sent again, first do what that takes."""
        result = outcome(reply)
        if result == "noscript":
            self._connections.load_script()
        elif result not in _DECIDED:
            self._refused(result)
        return result

    def _refused(self, reason: str) -> None:
        """Log why the server refuses, which an operator has to mend, and wait."""
        log.error(
            "the server refuses, nothing was written; trying again", reason=users.explain(reason)
        )
        status = self._status
        status.refused, status.turn, status.handling = reason, time.monotonic(), None
        if self._shutdown.wait(REFUSED_PAUSE_S):
            raise ConnectionLost("stopped while the server refused")
