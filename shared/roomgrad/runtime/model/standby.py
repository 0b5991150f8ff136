"""Whether a replica whose machine computes other bits leaves the work to the others."""

from __future__ import annotations

import time

import structlog

from roomgrad.redis import heartbeats
from roomgrad.redis.connection import Command
from roomgrad.redis.heartbeats import Heartbeat
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.model.log import Call
from roomgrad.runtime.status import STANDS_BY, Status

log = structlog.get_logger("roomgrad")

_SCANNED = b"1000"  # keys of one command


class Standby:
    """A replica that differs stands by while one lives that does not.

    If it did not, each would let the run continue with its own bits, in turns. If all others that
    live stand by too, the first of them by name goes on.
    """

    def __init__(self, identity: Identity, status: Status, call: Call) -> None:
        self._identity = identity
        self._status = status
        self._call = call
        self._look_at = 0.0

    def is_on(self, *, differs: bool) -> bool:
        """Return whether this replica stands by; it looks for the others once a heartbeat."""
        if not differs:
            self._status.stands_by = False
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self._identity.settings.heartbeat_interval_s
            others_work = any(map(self._works, self._others()))
            if self._status.stands_by and not others_work:
                log.warning("the replicas that this one stood by for are gone: it goes on")
            self._status.stands_by = others_work
        return self._status.stands_by

    def _works(self, other: Heartbeat) -> bool:
        return other.waits != STANDS_BY or other.consumer < self._identity.consumer

    def _others(self) -> list[Heartbeat]:
        """Return the heartbeats of the component's other replicas."""
        names, component = self._identity.names, self._identity.component.name
        pattern = heartbeats.pattern(names, component).encode()
        keys: list[bytes] = []
        cursor = b"0"
        while True:
            scan: Command = [b"SCAN", cursor, b"MATCH", pattern, b"COUNT", _SCANNED]
            cursor, found = self._call(scan)
            keys += found
            if cursor == b"0":
                break
        own = names.alive(self._identity.consumer).encode()
        others = [key for key in keys if key != own]
        values = self._call([b"MGET", *others]) if others else []
        consumers = (key.decode().removeprefix(names.alive("")) for key in others)
        beats = (heartbeats.parse(v, c) for v, c in zip(values, consumers, strict=True) if v)
        return [each for each in beats if each is not None]
