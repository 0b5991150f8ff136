"""Beside the loop of a replica: heartbeat, orphans, rings, delays, history, the watchdog."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable

import orjson
import structlog

from roomgrad.errors import TLSError
from roomgrad.names import Names
from roomgrad.redis.connection import Connection, ConnectionLost, ReplyError
from roomgrad.runtime import runs
from roomgrad.runtime.consumers import GroupConsumer
from roomgrad.runtime.history import History
from roomgrad.runtime.notifications import Notifications
from roomgrad.runtime.redelivery import give_back
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.status import Status
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

# Rings are looked at in bunches: to wake for each would cost the handlers the GIL.
NOTIFICATION_PAUSE_S = 0.05
RECONNECT_S = 0.25  # between two attempts to reach a server that is away
CLEAN_EVERY = 30  # heartbeats between two looks for consumers that are gone for good
MIB = 1024 * 1024
# Own heartbeats that rang unheard, and for how long, until the subscription is made again.
DEAF_BEATS, DEAF_S = 3, 3.0


class Housekeeping:
    """One thread beside the loop, on connections of its own."""

    def __init__(
        self,
        names: Names,
        settings: RuntimeSettings,
        component: str,
        consumer: str,
        pulse: Status,
        source: GroupConsumer | None,
        rings: Notifications,
        open_wire: Callable[[str], Connection],
        history: History,
        later: Scheduler,
    ) -> None:
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._names = names
        self._settings = settings
        self._component = component
        self._consumer = consumer
        self._pulse = pulse
        self._source = source
        self._rings = rings
        self._history = history
        self._later = later
        self._wire = open_wire("keeper")
        self._ring_wire = open_wire("rings")
        # A heartbeat that hangs must leave time for another one on a new connection.
        self._wire.grace_s = min(self._wire.grace_s, settings.heartbeat_lives_s / 3)
        self._began = time.time()
        self._beats = 0
        self._due = 0.0  # when to beat next
        self._connected_at = 0.0
        self._trimmed_at = self._trimmed_bytes = 0
        self._failing: set[Connection] = set()
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._bell_reader, self._bell_writer = socket.socketpair()
        self._bell_reader.setblocking(False)
        self._bell_writer.setblocking(False)
        later.bell = self._ring
        self._keep_script = runs.script("heartbeat").encode()

    def start(self) -> None:
        """Starts the thread, unless it runs already."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread and takes the heartbeat away, so that nobody waits for it to expire."""
        if self._thread.is_alive():
            self._stop_writer.send(b"x")
            self._thread.join(timeout=5)
            with contextlib.suppress(OSError, ReplyError):
                self.leave(self._wire)
        self._later.bell = None
        pairs = (self._stop_reader, self._stop_writer, self._bell_reader, self._bell_writer)
        for each in (self._wire, self._ring_wire, *pairs):
            each.close()

    def leave(self, wire: Connection) -> None:
        """Gives back what is in hand and takes the heartbeat away: others need not wait."""
        if self._source is not None:
            give_back(wire, self._source, self._settings.lease_s)
        wire.call([b"DEL", self._names.alive(self._consumer).encode()])

    def _run(self) -> None:
        """Beats, delivers, listens and trims until `stop`; outlives every outage."""
        while True:
            now = time.monotonic()
            if now >= self._due:
                self._due = now + self._settings.heartbeat_interval_s
                self._watch()
                self._attempt(self._beat, self._wire)
            if time.monotonic() >= self._later.due:
                self._attempt(self._deliver, self._wire)
            self._attempt(self._listen, self._ring_wire)
            if self._failing:  # what is due meanwhile is late already
                self._due = min(self._due, time.monotonic() + RECONNECT_S)
            if self._wait(self._due):
                return

    def _attempt(self, action: Callable[[], None], wire: Connection) -> None:
        try:
            if not wire.connected:
                wire.connect()
                if wire is self._ring_wire:
                    self._rings.subscribe(wire)
                else:
                    self._connected_at = time.monotonic()
            action()
            self._failing.discard(wire)
        except (OSError, ReplyError, TLSError) as error:
            wire.close()
            if wire is self._wire:  # who only listens would not notice that its server is gone
                self._ring_wire.close()
            if wire not in self._failing:
                log.warning("the keeper lost the server, trying again", reason=str(error))
            self._failing.add(wire)
        except Exception as error:  # without this thread the replica would count as dead
            log.error("the keeper goes on after an error", exc_info=error)

    def _wait(self, beat: float) -> bool:
        """Sleeps until a ring, the next beat, the next delivery or the end; True at the end."""
        sources = [self._stop_reader, self._bell_reader]
        rings = self._ring_wire.handle
        ready = self._ready([*sources, rings] if rings is not None else sources, beat)
        if ready and rings in ready:
            ready += self._ready(sources, min(beat, time.monotonic() + NOTIFICATION_PAUSE_S))
        if self._bell_reader in ready:
            self._bell_reader.recv(4096)
        return self._stop_reader in ready

    def _ready(self, sources: list[socket.socket], until: float) -> list[socket.socket]:
        """Which of these have something to say, once one has or it is time to deliver."""
        seconds = min(until, self._later.due) - time.monotonic()
        found = select.poll()  # not select, which takes no file beyond the 1,024th of a process
        by_number = {each.fileno(): each for each in sources}
        for number in by_number:
            found.register(number, select.POLLIN)
        return [by_number[number] for number, _ in found.poll(max(0.0, seconds) * 1000)]

    def _ring(self) -> None:
        """Ends the sleep: a message is due before what is waited for. For any thread."""
        with contextlib.suppress(BlockingIOError):  # full of bells that are not heard yet
            self._bell_writer.send(b"x")

    def _listen(self) -> None:
        self._rings.hear(self._ring_wire.drain(), self._wire)
        deaf_s = time.monotonic() - self._rings.heard_at
        if self._rings.unheard > DEAF_BEATS and deaf_s > DEAF_S:
            raise ConnectionLost(f"{self._rings.unheard} heartbeats rang and were not heard")

    def _deliver(self) -> None:
        self._later.deliver(self._wire)

    # once a heartbeat

    def _beat(self) -> None:
        settings = self._settings
        self._beats += 1
        streams = list(self._source.keys) if self._source else []
        # After an outage all heartbeats have expired: the living get time to beat again.
        believes = time.monotonic() - self._connected_at >= settings.heartbeat_lives_s
        own = [self._names.alive(self._consumer), self._names.run_info()]
        memory = self._names.memory(self._component).encode()
        keys = [*(name.encode() for name in own), self._later.dues, memory, *streams]
        arguments = [
            self._heartbeat(),
            b"%d" % (settings.heartbeat_lives_s * 1000),
            (self._source.group if self._source else "").encode(),
            b"%d" % (settings.lease_s * 1000),
            self._consumer.encode(),
            self._names.alive("").encode(),
            b"1" if self._beats % CLEAN_EVERY == 0 else b"0",
            b"1" if believes else b"0",
            self._wire.ring,
        ]
        reply = self._wire.call([b"EVAL", self._keep_script, b"%d" % len(keys), *keys, *arguments])
        if isinstance(reply, ReplyError):
            raise reply
        token, later_ms, lease_ms, rang, records, *orphans = reply
        self._pulse.token_seen = token.decode()
        self._rings.unheard += rang
        if not self._pulse.orphans:
            self._pulse.orphans.extend((streams[n - 1], entry.decode()) for n, entry in orphans)
        if later_ms >= 0:
            self._later.expect(later_ms / 1000)
        if lease_ms >= 0:  # looks again when it is over: the dead shall not keep others waiting
            self._due = min(self._due, time.monotonic() + (lease_ms + 1) / 1000)
        if records >= 0:
            self._pulse.open_roots = records
        self._trim()

    def _heartbeat(self) -> bytes:
        pulse = self._pulse
        return orjson.dumps(
            {
                "component": self._component,
                "replica": self._settings.replica,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": self._began,
                "turn": pulse.turn,
                "handling": pulse.handling,
                "version": pulse.version,
            }
        )

    def _trim(self) -> None:
        """Forgets what every group has acknowledged, once it is much, or every ten beats."""
        if self._source is None:  # who only looks on delays no trimming, and does none
            return
        pulse, settings = self._pulse, self._settings
        commits, size = pulse.commits - self._trimmed_at, pulse.handled_bytes - self._trimmed_bytes
        few = commits < settings.history_entries // 4 and size < settings.history_mib * MIB / 4
        if few and (not commits or self._beats % 10):
            return
        self._trimmed_at, self._trimmed_bytes = pulse.commits, pulse.handled_bytes
        self._history.trim(self._wire)

    def _watch(self) -> None:
        """A handler that hangs becomes a death: another replica takes its message over."""
        since = self._pulse.handling
        if since is not None and time.time() - since > self._settings.handler_timeout_s:
            log.critical(
                "handler ran too long, the process ends itself",
                limit_s=self._settings.handler_timeout_s,
            )
            os._exit(70)
