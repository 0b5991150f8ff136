"""The process of a component: settings, log, signals, exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import structlog

from roomgrad import log as logs
from roomgrad.component import Component
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.flags import load
from roomgrad.redis.server import address
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime.replica import LOST, Replica
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")


def run(
    component: Component, settings: RuntimeSettings | None = None, url: AnyAddress = ""
) -> NoReturn:
    """Run one replica of a component, and end the process; see `roomgrad.main`.

    settings: those of this process unless given. url: the server's address, if not theirs.
    """
    try:
        settings = settings or load(component.settings)
        logs.setup(settings.log_level, settings.log_format)
        url = address(url or settings.redis_url, settings.redis_ca_file)
        replica = Replica(component, settings, url)
        _stop_on_signal(replica, settings.stop_s)
        code = replica.run()
    except RoomgradError as error:
        print(f"{component.name}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)


def _stop_on_signal(replica: Replica, stop_s: float) -> None:
    """Ask the replica to stop on the first SIGTERM or SIGINT, and limit the time that it takes."""
    requested: SimpleQueue[None] = SimpleQueue()  # its `put` is safe in a signal handler

    def stop(_signal: int, _frame: FrameType | None) -> None:
        replica.stop()
        requested.put(None)

    def end_after_limit() -> None:
        requested.get()
        threading.Event().wait(stop_s)
        _end_now(replica, stop_s)

    threading.Thread(target=end_after_limit, name="deadline", daemon=True).start()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _end_now(replica: Replica, stop_s: float) -> None:
    """End the process while a handler or an unreachable server still blocks its loop."""
    log.warning("not done in time: unfinished messages are handed back", limit_s=stop_s)
    try:
        replica.give_up()
    except LOST as error:
        log.warning("the server cannot be reached, so the leases have to expire", reason=str(error))
    os._exit(0)
