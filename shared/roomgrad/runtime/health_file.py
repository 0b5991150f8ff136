"""The health file of a process: `roomgrad-probe` reads it for the container engine.

It has one line: until when it holds, in seconds of /proc/uptime, then `well`, `away` or `failed`,
and a sentence. A check that started a Python would cost more than most components do.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from roomgrad.errors import SettingsError
from roomgrad.redis.heartbeats import LONGEST_TURN_S, Heartbeat
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.status import Status

UPTIME = Path("/proc/uptime")  # a clock that is never set, which a shell can read
RENEW_S = 1.0
STUCK_S = 60.0  # what an attempt to reach the server may take at most

WELL, AWAY, FAILED = "well", "away", "failed"


class Health(NamedTuple):
    """How a process is."""

    state: str
    """`well`, `away` (no server answers, which a restart would not mend), or `failed`."""

    sentence: str


def health_of(identity: Identity, status: Status) -> Health:
    """Return how a replica is."""
    name, settings, now = identity.component.name, identity.settings, time.monotonic()
    for lost in (status.lost, status.unsent):
        if lost is not None and now - lost.at < STUCK_S:
            return Health(AWAY, f"{name} waits for its server: {lost.reason}")
    here = Heartbeat(name, "", socket.gethostname(), os.getpid(), status.turn, status.handling)
    if trouble := here.trouble(now, settings.handler_timeout_s):
        return Health(FAILED, trouble)
    if status.sent is None:
        return Health(FAILED, f"{name} has not joined its run yet")
    if now - status.sent > LONGEST_TURN_S:
        return Health(FAILED, f"no heartbeat of {name} was sent for {now - status.sent:.0f} s")
    waits = f" lives, and waits: {status.waits}." if status.waits else " is well."
    return Health(WELL, name + waits)


def worst(found: Iterable[Health]) -> Health:
    """Return the first that failed, else the first that waits, else the first."""
    return max(found, key=lambda each: (WELL, AWAY, FAILED).index(each.state))


@contextlib.contextmanager
def renewed(path: str, health: Callable[[], Health]) -> Iterator[None]:
    """Renew the health file in a thread; delete it afterwards. Does nothing without a path.

    Raises SettingsError if the file cannot be written.
    """
    if not path:
        yield
        return
    _write(Path(path), health())
    ending = threading.Event()

    def renew() -> None:
        while not ending.wait(RENEW_S):
            with contextlib.suppress(SettingsError):  # an old file counts as failed
                _write(Path(path), health())

    thread = threading.Thread(target=renew, name="health file", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        Path(path).unlink(missing_ok=True)


def _write(path: Path, health: Health) -> None:
    """Replace the file at once, so that no reader finds half of it. Raises SettingsError."""
    new = path.with_name(f"{path.name}.new")
    try:
        until = float(UPTIME.read_text().split()[0]) + LONGEST_TURN_S
        sentence = " ".join(health.sentence.split())
        new.write_text(f"{until:.0f} {health.state} {sentence}\n")
        new.replace(path)
    except OSError as error:
        raise SettingsError(
            f"the health file {path} cannot be written: {error}; name another one in "
            "ROOMGRAD_HEALTH_FILE, or none"
        ) from error
