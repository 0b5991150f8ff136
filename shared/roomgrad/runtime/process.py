"""The process of a component: settings, log, signals, exit code."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from roomgrad import log as logs
from roomgrad.component import Component
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.runtime.replica import Replica
from roomgrad.server import address
from roomgrad.settings import load


def main(component: Component) -> None:
    """Runs one replica of a component until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    try:
        settings = load(component.settings)
        logs.setup(settings.log_level, settings.log_format)
        replica = Replica(component, settings, address(settings.redis_url))

        def stop(_signal: int, _frame: FrameType | None) -> None:
            replica.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        code = replica.run()
    except RoomgradError as error:
        print(f"{component.name}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)
