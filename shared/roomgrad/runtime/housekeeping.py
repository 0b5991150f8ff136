"""The thread beside the loop: heartbeats, delayed messages, notifications, history, watchdog."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable

import structlog

from roomgrad.errors import ConnectionLost, TLSError
from roomgrad.redis.connection import Connection, ReplyError
from roomgrad.redis.outage import Outage
from roomgrad.runtime.connections import NOT_NOW
from roomgrad.runtime.consumers import GroupConsumer
from roomgrad.runtime.gone_guests import GoneGuests
from roomgrad.runtime.heartbeat_sender import HeartbeatSender
from roomgrad.runtime.history import History
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.notifications import Notifications
from roomgrad.runtime.redelivery import give_back, hand_over
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.status import Lost, Status

log = structlog.get_logger("roomgrad")

# Notifications are read in batches: a wake-up for each would cost the handlers the GIL.
NOTIFICATION_PAUSE_S = 0.05
RECONNECT_S = 0.25  # between two attempts to reach a server that is away


class Housekeeping:
    """One thread beside the loop, with two connections of its own.

    One connection sends heartbeats, delayed messages and trims; the other one subscribes to the
    channels of the component's rooms.
    """

    def __init__(
        self,
        identity: Identity,
        status: Status,
        consumer: GroupConsumer | None,
        scheduler: Scheduler,
        open_connection: Callable[[str], Connection],
    ) -> None:
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._identity = identity
        self._settings = identity.settings
        self._status = status
        self._consumer = consumer
        self._scheduler = scheduler
        self._notifications = Notifications(identity)
        self._heartbeat = HeartbeatSender(identity, status, consumer, scheduler)
        # An `everyone` replica holds no history back, and trims none.
        self._history = History(identity, status) if consumer is not None else None
        self._gone_guests = GoneGuests(identity)
        self._connection = open_connection("housekeeping")
        self._subscriber = open_connection("notifications")
        # A heartbeat that hangs must leave time for another one on a new connection.
        lives_s = self._settings.heartbeat_lives_s
        self._connection.grace_s = min(self._connection.grace_s, lives_s / 3)
        self._due = 0.0  # when to send the next heartbeat
        self._beating_since: float | None = None  # since when no heartbeat has failed
        self._failing: dict[Connection, Outage] = {}
        self._refused: dict[str, str] = {}  # by action, why the server refuses it
        self._stop_reader, self._stop_writer = socket.socketpair()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        scheduler.wake = self._wake

    def start(self) -> None:
        """Start the thread, unless it runs already."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """End the thread and delete the heartbeat, so that no other has to wait for it."""
        if self._thread.is_alive():
            self.end(5)
            with contextlib.suppress(OSError, ReplyError):
                self.leave(self._connection)
        self._scheduler.wake = None
        pairs = (self._stop_reader, self._stop_writer, self._wake_reader, self._wake_writer)
        for each in (self._connection, self._subscriber, *pairs):
            each.close()

    def end(self, seconds: float) -> None:
        """End the thread, and wait at most so long for it: it sends no heartbeat from then on."""
        if self._thread.is_alive():
            with contextlib.suppress(OSError):  # `stop` has closed it
                self._stop_writer.send(b"x")
            self._thread.join(seconds)

    def leave(self, connection: Connection) -> None:
        """Give unacknowledged messages back and delete the heartbeat."""
        if self._consumer is not None:
            lease_s = self._settings.lease_s
            hand_over(connection, self._consumer, self._status.received, lease_s)
            give_back(connection, self._consumer, lease_s)
        alive = self._identity.names.alive(self._identity.consumer)
        connection.call([b"DEL", alive.encode()])

    def _run(self) -> None:
        """Do what is due until `stop` is called; outlive every outage."""
        while True:
            now = time.monotonic()
            if now >= self._due:
                self._due = now + self._settings.heartbeat_interval_s
                self._end_if_handler_hangs()
                self._attempt(self._hand_over, self._connection)
                self._attempt(self._send_heartbeat, self._connection)
                if self._history is not None and self._connection.connected:
                    self._attempt(self._trim, self._connection)
                    self._attempt(self._end_roots_of_guests, self._connection)
            if time.monotonic() >= self._scheduler.due:
                self._attempt(self._deliver, self._connection)
            self._attempt(self._read_notifications, self._subscriber)
            if self._failing:  # whatever comes due meanwhile is late already
                self._due = min(self._due, time.monotonic() + RECONNECT_S)
            if self._wait():
                return

    def _attempt(self, action: Callable[[], None], connection: Connection) -> None:
        """Run an action on a connection, which is opened first if it was lost.

        What the server refuses, for want of a permission for example, delays no other action.
        """
        try:
            if not connection.connected:
                self._connect(connection)
            action()
            if action in (self._send_heartbeat, self._read_notifications):  # others may ask nothing
                self._failing.pop(connection, None)
            self._refused.pop(action.__name__, None)
        except (OSError, TLSError) as error:
            self._lost(connection, error)
        except ReplyError as error:
            if not connection.connected or str(error).startswith(NOT_NOW):
                self._lost(connection, error)
            elif self._refused.get(action.__name__) != str(error):
                self._refused[action.__name__] = str(error)
                log.error("the server refuses housekeeping, trying again", reason=str(error))
        except Exception as error:  # without this thread the replica would count as dead
            log.error("housekeeping continues after an error", exc_info=error)

    def _connect(self, connection: Connection) -> None:
        connection.connect()
        if connection is self._subscriber:
            self._notifications.subscribe(connection)
        else:
            self._beating_since = None

    def _lost(self, connection: Connection, error: Exception) -> None:
        connection.close()
        if connection is self._connection:
            self._status.unsent = Lost(time.monotonic(), str(error))
            self._subscriber.close()  # it does not notice that its server died
        if self._failing.setdefault(connection, Outage()).is_news(error):
            log.warning("housekeeping lost the server, trying again", reason=str(error))

    def _send_heartbeat(self) -> None:
        # After an outage all heartbeats have expired: living replicas get time to send theirs.
        since, self._beating_since = self._beating_since, None
        settled = since is not None and time.monotonic() - since >= self._settings.heartbeat_lives_s
        lease_s, notified = self._heartbeat.send(self._connection, settled)
        self._status.sent, self._status.unsent = time.monotonic(), None
        self._beating_since = self._status.sent if since is None else since
        self._notifications.unheard += notified
        if lease_s is not None:  # claim its messages when the lease of a dead replica ends
            self._due = min(self._due, time.monotonic() + lease_s)

    def _trim(self) -> None:
        assert self._history is not None
        self._history.trim_if_due(self._connection)

    def _end_roots_of_guests(self) -> None:
        self._gone_guests.give_up(self._connection)

    def _deliver(self) -> None:
        self._scheduler.deliver(self._connection)

    def _read_notifications(self) -> None:
        self._notifications.receive(self._subscriber.drain(), self._connection)
        if self._notifications.deaf:
            raise ConnectionLost(
                f"{self._notifications.unheard} heartbeats were published and did not arrive"
            )

    def _end_if_handler_hangs(self) -> None:
        """End the process if a handler takes too long: another replica claims its message."""
        since, limit_s = self._status.handling, self._settings.handler_timeout_s
        if since is not None and time.monotonic() - since > limit_s:
            log.critical("handler ran too long, the process ends itself", limit_s=limit_s)
            os._exit(70)

    def _hand_over(self) -> None:
        """Hand over what the loop has received, while a handler takes longer than a lease."""
        since, lease_s, status = self._status.handling, self._settings.lease_s, self._status
        slow = since is not None and time.monotonic() - since > lease_s
        if slow and self._consumer is not None:
            hand_over(self._connection, self._consumer, status.received, lease_s)

    # waiting

    def _wait(self) -> bool:
        """Sleep until something is due, a notification or `stop`; return True after `stop`."""
        sockets = [self._stop_reader, self._wake_reader]
        subscriber = self._subscriber.handle
        due = self._due
        ready = self._ready([*sockets, subscriber] if subscriber is not None else sockets, due)
        if ready and subscriber in ready:
            ready += self._ready(sockets, min(due, time.monotonic() + NOTIFICATION_PAUSE_S))
        if self._wake_reader in ready:
            self._wake_reader.recv(4096)
        return self._stop_reader in ready

    def _ready(self, sockets: list[socket.socket], until: float) -> list[socket.socket]:
        """Return the readable sockets, once there is one or a delayed message is due."""
        seconds = min(until, self._scheduler.due) - time.monotonic()
        poll = select.poll()  # select takes no file number from 1,024 on
        by_number = {each.fileno(): each for each in sockets}
        for number in by_number:
            poll.register(number, select.POLLIN)
        return [by_number[number] for number, _ in poll.poll(max(0.0, seconds) * 1000)]

    def _wake(self) -> None:
        """End the sleep, since a delayed message is due earlier; may be called by any thread."""
        with contextlib.suppress(BlockingIOError):  # it was woken many times already
            self._wake_writer.send(b"x")
