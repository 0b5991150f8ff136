"""The dashboard as a process: a web server, and a thread for each run that somebody watches."""

from __future__ import annotations

import threading

import redis
import structlog

from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import address, connect
from roomgrad.web import serving
from roomgrad.web.dashboard.page import Page
from roomgrad.web.dashboard.settings import PORT, DashboardSettings
from roomgrad.web.dashboard.watch import Watch
from roomgrad.web.serving import LAST_RESORT_S, Listener
from roomgrad.web.store import Store

log = structlog.get_logger("roomgrad")

MOST_STORES = 100  # runs of a cluster; the one that was asked for first is connected anew


class DashboardServer:
    """One dashboard. `serve` blocks until `stop`, which a signal handler may call."""

    def __init__(self, settings: DashboardSettings, url: str) -> None:
        self._settings = settings
        self.listener = Listener(settings, PORT)
        self._ending = threading.Event()
        self._url = url
        self._stores: dict[str, Store[redis.Redis]] = {}
        self.page = Page(self._store, settings.run, self._watch)
        self._web = self.listener.server(self.page.app())

    @property
    def url(self) -> str:
        """The address of the page, with its token where one is needed."""
        return self.listener.url

    @property
    def is_serving(self) -> bool:
        """Whether the web server answers."""
        return self._web.started

    def serve(self) -> int:
        """Serves until `stop`; the exit code."""
        web = threading.Thread(target=self._serve_web, name="web", daemon=True)
        web.start()
        log.info("the dashboard is at", url=self.url)
        self._ending.wait()
        self.page.close()
        self._web.should_exit = True
        web.join(LAST_RESORT_S)
        for store in self._stores.values():
            store.close()
        return 0

    def stop(self) -> None:
        """Asks it to end."""
        self._ending.set()

    def _serve_web(self) -> None:
        try:
            self._web.run(sockets=[self.listener.socket])
        finally:
            if not self._ending.is_set():
                log.error("the web server has ended")
                self._ending.set()

    def _store(self, run: str) -> Store[redis.Redis]:
        """The way to the server of a run: of a cluster, each has one of its own."""
        url = for_run(self._url, run)
        if len(self._stores) > MOST_STORES:
            self._stores.pop(next(iter(self._stores))).close()
        if url not in self._stores:
            password_file = self._settings.redis_password_file
            self._stores[url] = Store(lambda: connect(url, password_file))
        return self._stores[url]

    def _watch(self, names: Names) -> Watch:
        return Watch(names, self._store(names.run), self._settings.every_s)


def main() -> None:
    """Runs the dashboard until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    serving.main(
        "dashboard",
        DashboardSettings,
        lambda loaded: DashboardServer(loaded, address(loaded.redis_url, loaded.redis_ca_file)),
    )
