"""Sends the heartbeat of a replica, and learns with it what needs attention."""

from __future__ import annotations

import os
import socket
import time

import orjson

from roomgrad import scripts
from roomgrad.redis.connection import Connection, ReplyError
from roomgrad.runtime.consumers import GroupConsumer
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.status import Status

CLEAN_EVERY = 30  # heartbeats between two searches for consumers that are gone for good


class HeartbeatSender:
    """Calls `lua/heartbeat.lua`: one round trip for the heartbeat and all that it reports."""

    def __init__(
        self,
        identity: Identity,
        status: Status,
        consumer: GroupConsumer | None,
        scheduler: Scheduler,
    ) -> None:
        names = identity.names
        self._identity = identity
        self._status = status
        self._scheduler = scheduler
        self._streams = list(consumer.keys) if consumer else []
        self._group = (consumer.group if consumer else "").encode()
        self._keys = [
            names.alive(identity.consumer).encode(),
            names.run_info().encode(),
            scheduler.due_key,
            names.memory(identity.component.name).encode(),
            *self._streams,
        ]
        self._script = scripts.load("heartbeat").encode()
        self._started = time.monotonic()
        self._count = 0

    def send(self, connection: Connection, settled: bool) -> tuple[float | None, int]:
        """Send one heartbeat.

        settled: whether every living replica has had time to send a heartbeat, so that a missing
        one means that its replica is dead.

        Returns in how many seconds the next lease of a dead replica ends, or None, and 1 if the
        heartbeat was published on its channel, else 0. Raises ReplyError.
        """
        self._count += 1
        settings, names = self._identity.settings, self._identity.names
        arguments = [
            self._value(),
            b"%d" % (settings.heartbeat_lives_s * 1000),
            self._group,
            b"%d" % (settings.lease_s * 1000),
            self._identity.consumer.encode(),
            names.alive("").encode(),
            b"1" if self._count % CLEAN_EVERY == 0 else b"0",
            b"1" if settled else b"0",
            connection.publish_command,
        ]
        count = b"%d" % len(self._keys)
        sent_ns = time.monotonic_ns()
        reply = connection.call([b"EVAL", self._script, count, *self._keys, *arguments])
        if isinstance(reply, ReplyError):
            raise reply
        token, delayed_ms, lease_ms, published, records, full, seconds, micros, *orphans = reply
        self._status.clock.adjust((seconds, micros), sent_ns)
        self._status.token_seen = token.decode()
        self._status.note_memory(full=bool(full))
        if not self._status.orphans:
            found = ((self._streams[number - 1], entry.decode()) for number, entry in orphans)
            self._status.orphans.extend(found)
        if delayed_ms >= 0:
            self._scheduler.expect(delayed_ms / 1000)
        if records >= 0:
            self._status.open_roots = records
        return (lease_ms + 1) / 1000 if lease_ms >= 0 else None, published

    def _value(self) -> bytes:
        status, clock = self._status, self._status.clock
        handling = status.handling
        return orjson.dumps(
            {
                "component": self._identity.component.name,
                "replica": self._identity.settings.replica,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": clock.unix_s(self._started),
                "turn": clock.unix_s(status.turn),
                "handling": None if handling is None else clock.unix_s(handling),
                "version": status.version,
                "error": next(iter([*status.failing.values()][-1:]), ""),
                "waits": status.waits,
                "snapshots": status.snapshots,
            }
        )
