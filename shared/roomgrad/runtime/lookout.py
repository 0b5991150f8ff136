"""Under Sentinel: leaves a master that was replaced, also where that cannot tell."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from roomgrad.runtime.wire import Wire
from roomgrad.sentinels import Place, Sentinels

log = structlog.get_logger("roomgrad")

LOOK_EVERY_S = 0.5


class Lookout:
    """One thread beside a replica that ends its connections to any server but the master.

    A frozen master answers nothing until an answer is overdue; one that thaws, or was cut off,
    takes itself for the master until the sentinels reach it, and loses what it is told until then.
    """

    def __init__(self, sentinels: Sentinels, wires: Sequence[Wire]) -> None:
        self._sentinels = sentinels
        self._wires = wires
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            master = self._sentinels.glance()
            if master is not None:
                self._leave_others(master)

    def _leave_others(self, master: Place) -> None:
        others = [wire for wire in self._wires if wire.connected and wire.at != master]
        for wire in others:
            wire.hang_up()
        if others:
            host, port = master
            log.info("the sentinels name another master", master=f"{host}:{port}")
