"""The page as a process: a replica that reads the rooms, and a web server beside it."""

from __future__ import annotations

import threading
import time

import orjson
import structlog

from roomgrad.clock import server_time
from roomgrad.codec import pack
from roomgrad.errors import Unavailable
from roomgrad.redis.client import Client
from roomgrad.redis.server import address
from roomgrad.redis.server_address import AnyAddress
from roomgrad.runtime import health_file
from roomgrad.runtime.replica import Replica
from roomgrad.web import serving
from roomgrad.web.changes import Changes
from roomgrad.web.serving import LAST_RESORT_S, Listener
from roomgrad.web.store import Store
from roomgrad_melody.contract import LABELLING, MELODY
from roomgrad_melody.snapshot import SnapshotReader

from .handlers import component
from .page import Page
from .settings import PORT, LabellingSettings

log = structlog.get_logger("roomgrad")

REFRESH_S = 0.25  # the shortest time between two reads of the tables
READ_S = 1.0  # the longest time between two reads, also without a message
PATIENCE_S = 2.0
STALLED_S = 10.0  # without a turn of the replica's loop, after which the page is not healthy


class LabellingServer:
    """One page. `serve` blocks until `stop`, which a signal handler may call."""

    def __init__(self, settings: LabellingSettings, url: AnyAddress) -> None:
        self.settings = settings
        self._url = url
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._announced = False
        self._reading = threading.Lock()
        self._replica = Replica(component(self._changed.set), settings, url)
        self.names = self._replica.names
        self._store = Store(self._client)
        self._reader = SnapshotReader(self.names, settings.sound)
        self.changes = Changes(self._changed.set)
        self.listener = Listener(settings, PORT)
        self._page = Page(settings, self._store, self.changes, self._snapshot, self._trouble)

    @property
    def url(self) -> str:
        """The address of the page, with its token if it asks for one."""
        return self.listener.url

    @property
    def is_serving(self) -> bool:
        """Whether the web server accepts requests and the replica reads messages."""
        return self.listener.is_serving and self._replica.status.token != ""

    def serve(self) -> int:
        """Serve until `stop` is called; return the exit code."""
        publisher = threading.Thread(target=self._publish, name="publisher", daemon=True)
        publisher.start()
        self.listener.start(self._page.app(), ended=self._replica.stop)
        log.info("the page is at", url=self.url)
        try:
            with health_file.renewed(self.settings.health_file, self._health):
                return self._replica.run()
        finally:
            self._ending.set()
            self._changed.set()
            self.listener.stop()
            publisher.join(LAST_RESORT_S)
            self._store.close()

    def stop(self) -> None:
        """Ask the server to end."""
        self._replica.stop()

    def _client(self) -> Client:
        settings = self.settings
        return Client(
            MELODY,
            settings.run,
            self._url,
            settings.redis_password_file,
            name=LABELLING,
            patience_s=PATIENCE_S,
        )

    def _publish(self) -> None:
        """Read the tables when a message came, once for all pages that ask."""
        while not self._ending.is_set():
            self._changed.clear()
            try:
                self._store.do(self._announce)
                if self.changes.is_followed:
                    self.changes.publish(self._snapshot())
                else:
                    self.changes.forget()
            except Unavailable as error:
                self._announced = False
                server = {"connected": False, "reason": str(error)}
                self.changes.publish(orjson.dumps({"server": server}))
            except Exception as error:
                log.error("the page could not be brought up to date", exc_info=error)
            self._ending.wait(REFRESH_S)
            self._changed.wait(READ_S - REFRESH_S)

    def _announce(self, client: Client) -> None:
        """Store the address of the page, for commands that show it; again if the run is new.

        The token stays here: a user that may read a run, or a backup of it, may not rate in it.
        """
        table, listener = self.names.table(LABELLING), self.listener
        if not self._announced or not client.redis.hexists(table, "now"):
            record = {"url": listener.address, "asks_for_token": bool(listener.token)}
            record["at"] = server_time(client.redis)
            client.redis.hset(table, "now", pack(record))
            self._announced = True

    def _snapshot(self) -> bytes:
        """Return all that the page shows, as JSON. Raises Unavailable."""
        with self._reading:
            state = self._store.do(lambda client: self._reader.read(client.redis))
        state["sound"]["lease_s"] = self.settings.question_lease_s
        return orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY)

    def _health(self) -> health_file.Health:
        return health_file.worst((self._replica.health(), self.listener.health()))

    def _trouble(self) -> str:
        stalled_s = time.monotonic() - self._replica.status.turn
        if stalled_s > STALLED_S:
            return f"the page has not heard of the server for {stalled_s:.0f} s"
        return ""


def main() -> None:
    """Run the page until SIGTERM or SIGINT; exit with 0, or with 2 for wrong settings."""
    serving.main(
        LABELLING,
        LabellingSettings,
        lambda loaded: LabellingServer(loaded, address(loaded.redis_url, loaded.redis_ca_file)),
    )
