"""Under Sentinel or in a cluster: leaves a master that was replaced, which may not know it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from roomgrad.redis.connection import Connection
from roomgrad.redis.sentinels import Address, MasterResolver

log = structlog.get_logger("roomgrad")

LOOK_EVERY_S = 0.5


class FailoverWatch:
    """One thread beside a replica that ends its connections to any server but the master.

    A frozen master answers nothing until an answer is overdue; one that thaws, or was cut off,
    takes itself for the master until the others reach it, and loses what it is told until then.
    """

    def __init__(self, resolver: MasterResolver, wires: Sequence[Connection]) -> None:
        self._resolver = resolver
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
            master = self._resolver.poll()
            if master is not None:
                self._leave_others(master)

    def _leave_others(self, master: Address) -> None:
        others = [wire for wire in self._wires if wire.connected and wire.at != master]
        for wire in others:
            wire.hang_up()
        if others:
            host, port = master
            log.info("another master is named", master=f"{host}:{port}")
