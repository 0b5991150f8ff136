"""The clock, the IDs and the threads of a schedule, in place of those of the process."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn
from unittest import mock

import structlog

import roomgrad
from roomgrad.clock import ServerClock
from roomgrad.runtime import loop, replica
from roomgrad.runtime.model import snapshotter
from roomgrad.runtime.observe.outcome import Outcome
from tests.schedules.stepping import BEGIN_S, NoWait, SteppedThread, World

UNIX_S = 1.8e9  # the server's clock when a schedule begins


class _Time:
    """The module `time`, by the clock of a schedule."""

    @staticmethod
    def monotonic() -> float:
        return World.now.clock_s

    @staticmethod
    def monotonic_ns() -> int:
        return round(World.now.clock_s * 1e9)

    @staticmethod
    def time_ns() -> int:
        return round((World.now.clock_s - BEGIN_S + UNIX_S) * 1e9)

    @staticmethod
    def sleep(seconds: float) -> NoReturn:
        raise AssertionError("a replica sleeps outside of its connections")


CLOCKED = ("roomgrad.runtime", "roomgrad.models", "roomgrad.clock", "roomgrad.context")


@contextlib.contextmanager
def stepped() -> Iterator[None]:
    """Within the block replicas have the clock, the IDs and the threads of a schedule."""
    with contextlib.ExitStack() as stack:

        def patch(owner: Any, name: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(owner, name, value))

        for name, module in [*sys.modules.items()]:
            if name.startswith(CLOCKED) and getattr(module, "time", None) is time:
                patch(module, "time", _Time)
        urandom = mock.Mock(urandom=lambda count: World.now.ids.randbytes(count))
        patch(roomgrad.messages, "os", urandom)
        patch(ServerClock, "adjust", lambda clock, reply, sent_ns: None)
        patch(loop, "Outcome", lambda delivery: Outcome(delivery, _Time.monotonic_ns()))
        patch(snapshotter, "threading", mock.Mock(Thread=SteppedThread))
        patch(replica, "ShutdownEvent", NoWait)
        before = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        try:
            yield
        finally:
            structlog.configure(**before)
