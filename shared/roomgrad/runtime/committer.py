"""Brings commits to the server until each stands, or turns out to be somebody else's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import structlog

from roomgrad.commit import Commit
from roomgrad.memory import Cache
from roomgrad.models import ModelState
from roomgrad.redis.connection import Command, ConnectionLost, Reply, ReplyError
from roomgrad.runtime import handling_times
from roomgrad.runtime.connections import Connections, outcome
from roomgrad.runtime.consumers import Consumer, Delivery
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.shutdown import ShutdownEvent
from roomgrad.runtime.work import Attempt, Work

log = structlog.get_logger("roomgrad")

REFUSED_PAUSE_S = 1.0  # between two attempts of a commit that the server does not allow
MANY_SKIPPED = 100  # skipped entries that are acknowledged without waiting for a commit

# Runs the handlers again on fresh state; told whether only the model has moved on.
Again = Callable[[Attempt, bool], Attempt]


class Committer:
    """One message, one commit."""

    def __init__(
        self,
        line: Connections,
        source: Consumer,
        work: Work,
        cache: Cache,
        stopping: ShutdownEvent,
        later: Scheduler,
    ) -> None:
        self._line = line
        self._source = source
        self._work = work
        self._cache = cache
        self._stopping = stopping
        self._later = later
        self._skipped: list[Delivery] = []

    def commit(
        self, delivery: Delivery, attempt: Attempt, again: Again, then_read: Sequence[Command]
    ) -> Attempt | None:
        """Commits what the handlers want: the attempt that stands, or None when somebody else
        committed the message.
        """
        commit, state = self._staged(delivery, attempt)
        reply = self._line.commit(commit, then_read)
        while (result := self._result(reply)) != "ok":
            if result == "gone":
                return None
            if result == "stale":
                if self._source.superseded(int(reply[1])):
                    raise ConnectionLost("another replica of the same name has read on")
                self._cache.clear()
                attempt = again(attempt, int(reply[1]) == len(commit.guards))
                commit, state = self._staged(delivery, attempt)
            reply = self._line.commit(commit)
        self._skipped.clear()
        self._expect_later(commit)
        self._source.committed(delivery)
        attempt.context.remember(self._cache)
        self._work.committed(state)
        return attempt

    def aside(self, commit: Commit) -> bool:
        """A commit of the runtime's own; False when it was done already."""
        while (result := self._result(self._line.commit(commit))) not in ("gone", "stale"):
            if result == "ok":
                self._expect_later(commit)
                return True
        return False

    def skip(self, delivery: Delivery) -> None:
        """No handler wants this message: it is acknowledged with the next commit."""
        self._skipped.append(delivery)
        if len(self._skipped) >= MANY_SKIPPED:
            self.flush()

    def flush(self) -> None:
        """Acknowledges skipped messages now, since no commit is in sight."""
        if self._skipped:
            commit = Commit()
            for skipped in self._skipped:
                self._source.mark(commit, skipped)
            self._skipped.clear()
            self.aside(commit)

    def clear(self) -> None:
        """Forgets what was skipped; it is delivered again."""
        self._skipped.clear()

    def wait_out(self, error: ReplyError) -> None:
        """A read that the server does not allow is waited for as a write is."""
        self._result(error)

    def _expect_later(self, commit: Commit) -> None:
        """The keeper may wait for its next beat for longer than for what was staged here."""
        if commit.soonest_s < math.inf:
            self._later.expect(commit.soonest_s)

    def _staged(self, delivery: Delivery, attempt: Attempt) -> tuple[Commit, ModelState | None]:
        commit = Commit()
        self._source.guard(commit, delivery)
        for skipped in self._skipped:
            self._source.mark(commit, skipped)
        state = self._work.stage(attempt, commit)
        if attempt.began_ns and commit.sends and self._work.settings.trace_times:
            commit.times = handling_times.written(
                delivery.entry, delivery.at_ns, attempt.began_ns, attempt.ended_ns, time.time_ns()
            )
        return commit, state

    def _result(self, reply: Reply) -> str:
        """ok, gone or stale; after anything else, what it takes to try again has been done."""
        result = outcome(reply)
        if result == "noscript":
            self._line.load_script()
        elif result not in ("ok", "gone", "stale"):
            self._refused(result)
        return result

    def _refused(self, reason: str) -> None:
        """A write that the server does not allow is an operator's matter. Nothing was done."""
        log.error("the server refuses, nothing was written; trying again", reason=reason)
        if self._stopping.wait(REFUSED_PAUSE_S):
            raise ConnectionLost("stopped while the server refused")
