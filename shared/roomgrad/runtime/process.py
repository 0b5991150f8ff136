"""The process of a component: settings, log, signals, exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from queue import SimpleQueue
from types import FrameType

import structlog

from roomgrad import log as logs
from roomgrad.component import Component
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.redis.server import address
from roomgrad.runtime.replica import LOST, Replica
from roomgrad.settings import load

log = structlog.get_logger("roomgrad")


def main(component: Component) -> None:
    """Runs one replica of a component until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    try:
        settings = load(component.settings)
        logs.setup(settings.log_level, settings.log_format)
        replica = Replica(component, settings, address(settings.redis_url, settings.redis_ca_file))
        _stop_on_signal(replica, settings.stop_s)
        code = replica.run()
    except RoomgradError as error:
        print(f"{component.name}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)


def _stop_on_signal(replica: Replica, stop_s: float) -> None:
    """The first SIGTERM or SIGINT asks the replica to end; its time is short then."""
    asked: SimpleQueue[None] = SimpleQueue()  # whose `put` a signal handler may call

    def stop(_signal: int, _frame: FrameType | None) -> None:
        replica.stop()
        asked.put(None)

    def end_in_time() -> None:
        asked.get()
        threading.Event().wait(stop_s)
        _end_without(replica, stop_s)

    threading.Thread(target=end_in_time, name="deadline", daemon=True).start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _end_without(replica: Replica, stop_s: float) -> None:
    """Ends the process while a handler, or a server that is away, still holds its loop."""
    log.warning("not done in time: what is in hand goes back to the others", limit_s=stop_s)
    try:
        replica.give_up()
    except LOST as error:
        log.warning("the server is away, the lease has to end by itself", reason=str(error))
    os._exit(0)
