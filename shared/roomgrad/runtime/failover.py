"""Watches for a failover under Sentinel or in a cluster, and leaves a master that was replaced."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from roomgrad.redis.connection import Connection
from roomgrad.redis.sentinels import Address, MasterResolver

log = structlog.get_logger("roomgrad")

POLL_EVERY_S = 0.5


class FailoverWatch:
    """One thread beside a replica that closes its connections to any server but the master.

    A frozen master is noticed only when a reply is overdue. One that thaws, or was cut off, takes
    itself for the master until the others reach it, and loses what is written until then.
    """

    def __init__(self, resolver: MasterResolver, connections: Sequence[Connection]) -> None:
        self._resolver = resolver
        self._connections = connections
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="failover", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(POLL_EVERY_S):
            master = self._resolver.poll()
            if master is not None:
                self._leave_others(master)

    def _leave_others(self, master: Address) -> None:
        others = [
            connection
            for connection in self._connections
            if connection.connected and connection.at != master
        ]
        for connection in others:
            connection.hang_up()
        if others:
            host, port = master
            log.info("the master was replaced", master=f"{host}:{port}")
