"""The page as a process: a replica that listens in the rooms, and a web server beside it."""

from __future__ import annotations

import threading
import time

import orjson
import structlog

from roomgrad.codec import pack
from roomgrad.redis.client import Client
from roomgrad.redis.server import address
from roomgrad.runtime.replica import Replica
from roomgrad.web import serving
from roomgrad.web.events import Events
from roomgrad.web.serving import LAST_RESORT_S, Listener, Unavailable
from roomgrad.web.store import Store
from roomgrad_melody.contract import LABELLING, MELODY
from roomgrad_melody.snapshot import SnapshotReader

from .handlers import component
from .page import Page
from .settings import PORT, LabellingSettings

log = structlog.get_logger("roomgrad")

REFRESH_S = 0.25  # the shortest time between two events
PATIENCE_S = 2.0
LOOK_S = 1.0  # so often the tables are looked at, even when no message came


class LabellingServer:
    """One page. `serve` blocks until `stop`, which a signal handler may call."""

    def __init__(self, settings: LabellingSettings, url: str) -> None:
        self.settings = settings
        self._url = url
        self.listener = Listener(settings, PORT)
        self._changed = threading.Event()
        self.events = Events(self._changed.set)
        self._ending = threading.Event()
        self._announced = False
        self._replica = Replica(component(self._changed.set), settings, url)
        self.names = self._replica.names
        self._store = Store(self._client)
        self._board = SnapshotReader(self.names, settings.sound)
        self._reading = threading.Lock()
        page = Page(self.settings, self._store, self.events, self._snapshot, self._trouble)
        self._web = self.listener.server(page.app())

    @property
    def url(self) -> str:
        """The address of the page, with its token where one is needed."""
        return self.listener.url

    @property
    def is_serving(self) -> bool:
        """Whether the web server answers and the replica listens."""
        return self._web.started and self._replica.status.token != ""

    def serve(self) -> int:
        """Serves until `stop`; the exit code."""
        threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("web", self._serve_web), ("watch", self._watch))
        ]
        for thread in threads:
            thread.start()
        log.info("the page is at", url=self.url)
        try:
            return self._replica.run()
        finally:
            self._ending.set()
            self.events.close()
            self._web.should_exit = True
            self._changed.set()
            for thread in threads:
                thread.join(LAST_RESORT_S)
            self._store.close()

    def stop(self) -> None:
        """Asks it to end."""
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

    def _serve_web(self) -> None:
        try:
            self._web.run(sockets=[self.listener.socket])
        finally:
            if not self._ending.is_set():
                log.error("the web server has ended")
                self._replica.stop()

    # what is new

    def _watch(self) -> None:
        """Looks at the tables when something happened, for all connected pages at once."""
        while not self._ending.is_set():
            self._changed.clear()
            try:
                self._store.do(self._announce)
                if self.events.listeners:
                    self.events.publish(self._snapshot())
            except Unavailable as error:
                self._announced = False
                self.events.publish(_away(str(error)))
            except Exception as error:
                log.error("the page could not be brought up to date", exc_info=error)
            self._ending.wait(REFRESH_S)
            self._changed.wait(LOOK_S - REFRESH_S)

    def _announce(self, client: Client) -> None:
        """Writes down where the page is, so that others can say so; again in a run made anew."""
        table = self.names.table(LABELLING)
        if not self._announced or not client.redis.hexists(table, "now"):
            client.redis.hset(table, "now", pack({"url": self.url, "at": time.time()}))
            self._announced = True

    def _snapshot(self) -> bytes:
        """All that the page shows, as JSON. Raises Away."""
        with self._reading:
            state = self._store.do(lambda client: self._board.snapshot(client.redis))
        state["sound"]["lease_s"] = self.settings.question_lease_s
        return orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY)

    def _trouble(self) -> str:
        pulse = self._replica.status
        still_s = time.time() - pulse.turn
        if still_s > 10:
            return f"the page has not heard of the server for {still_s:.0f} s"
        return ""


def _away(reason: str) -> bytes:
    return orjson.dumps({"server": {"connected": False, "reason": reason}})


def main() -> None:
    """Runs the page until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    serving.main(
        LABELLING,
        LabellingSettings,
        lambda loaded: LabellingServer(loaded, address(loaded.redis_url, loaded.redis_ca_file)),
    )
