"""One replica of a component: the life of its loop, through outages, until it is stopped."""

from __future__ import annotations

import time

import structlog
from redis.exceptions import RedisError

from roomgrad.component import Component
from roomgrad.errors import EmptiedServer, NoServer, SnapshotError, TLSError
from roomgrad.redis.addresses import for_run, resolve, resolver_of
from roomgrad.redis.connection import REPLY_GRACE_S, Connection, ReplyError
from roomgrad.redis.outage import Outage
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.consumers import GroupConsumer
from roomgrad.runtime.failover import FailoverWatch
from roomgrad.runtime.health_file import Health, health_of
from roomgrad.runtime.housekeeping import Housekeeping
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.loop import Loop
from roomgrad.runtime.model.snapshotter import Snapshotter
from roomgrad.runtime.observe.observers import observers
from roomgrad.runtime.scheduler import Scheduler
from roomgrad.runtime.shutdown import ShutdownEvent
from roomgrad.runtime.status import Lost, Status
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

RECONNECT_S = (0.05, 0.1)  # first and longest pause between two attempts to connect
END_S = 0.5  # for a heartbeat that is on its way when the process ends

LOST = (OSError, ReplyError, RedisError, NoServer, EmptiedServer, SnapshotError)


def _lost(error: Exception) -> str:
    return "cannot store the model" if isinstance(error, SnapshotError) else "lost the server"


class Replica:
    """One process of a component. `run` serves and returns the exit code; `stop` ends it."""

    def __init__(self, component: Component, settings: RuntimeSettings, url: AnyAddress) -> None:
        self.identity = Identity.create(component, settings)
        self.names = self.identity.names
        self.consumer = self.identity.consumer
        self.status = Status()
        self._url = for_run(url, self.names.run)
        self._opened: list[Connection] = []
        self._shutdown = ShutdownEvent()
        self._connections = Connections(self._open, self.status.clock)
        self._scheduler = Scheduler(self.names, component)
        self._observers = observers(self.identity, self._url, self.status.clock)
        self._loop = Loop(
            self.identity,
            self.status,
            self._shutdown,
            self._connections,
            self._scheduler,
            self._observers,
            Snapshotter(self.identity, self._open("snapshots"), self.status),
        )
        self._housekeeping: Housekeeping | None = None
        self._pause_s, self._lost_at = RECONNECT_S[0], 0.0
        self._outage = Outage()

    def _open(self, purpose: str) -> Connection:
        password_file = self.identity.settings.redis_password_file
        connection = Connection(self._url, password_file, f"{self.consumer}~{purpose}")
        self._opened.append(connection)
        return connection

    def health(self) -> Health:
        """Return how this replica is."""
        return health_of(self.identity, self.status)

    def stop(self) -> None:
        """Ask the loop to commit the message that it handles, and to end."""
        self._shutdown.set()

    def give_up(self) -> None:
        """Hand unfinished messages back, for a process that ends while its loop is busy.

        Raises OSError if the server cannot be reached: then the leases have to expire.
        """
        if self._housekeeping is not None:
            self._housekeeping.end(END_S)  # no heartbeat may follow its deletion
            connection = self._open("end")
            connection.connect()
            self._housekeeping.leave(connection)

    def run(self) -> int:
        """Serve until `stop` is called, through outages of any length; return the exit code.

        Raises TLSError if the server that is found first cannot be trusted.
        """
        resolver = resolver_of(self._url, self.identity.settings.redis_password_file)
        failover = FailoverWatch(resolver, self._opened) if resolver else None
        if failover is not None:
            failover.start()
        consumer = self._loop.consumer
        housekeeping = self._housekeeping = Housekeeping(
            self.identity,
            self.status,
            consumer if isinstance(consumer, GroupConsumer) else None,
            self._scheduler,
            self._open,
        )
        try:
            self._serve(housekeeping)
        finally:
            if failover is not None:
                failover.stop()
            housekeeping.stop()
            for connection in self._opened:
                connection.close()
            self._observers.close()
        log.info("stopped", component=self.identity.component.name)
        return 0

    def _serve(self, housekeeping: Housekeeping) -> None:
        connected_before = False
        while not self._shutdown.is_set():
            try:
                self._connect()
                connected_before = True
                housekeeping.start()
                while not self._loop.ended:
                    delivery = self._loop.receive()
                    self._reachable()
                    if delivery is None:
                        self._loop.idle()
                    else:
                        self._loop.handle(delivery)
                self._loop.finish()
            except LOST as error:
                if isinstance(error, TLSError) and not connected_before:
                    raise
                self._loop.abandon()
                self.status.lost = Lost(time.monotonic(), str(error))
                self._lost_at = self._lost_at or time.monotonic()
                if self._outage.is_news(error):
                    log.warning(f"{_lost(error)}, trying again", reason=str(error))
                self._shutdown.wait(self._pause_s)
                self._pause_s = min(self._pause_s * 2, RECONNECT_S[1])

    def _reachable(self) -> None:
        """Reset the pause after the first successful read.

        A connection alone does not prove that the server lets the replica read.
        """
        if self._lost_at:
            log.info("the server answers again", after_s=round(time.monotonic() - self._lost_at, 2))
            self._pause_s, self._lost_at = RECONNECT_S[0], 0.0
            self._outage.end()

    def _connect(self) -> None:
        password_file = self.identity.settings.redis_password_file
        self._connections.connect()
        self.status.lost = None
        server = resolve(self._url, self._connections.at, password_file)
        with connect(server, password_file, REPLY_GRACE_S) as client:
            self._loop.prepare(client)
