"""The dashboard as a process: a web server, and a thread for each run that a page shows."""

from __future__ import annotations

import threading

import redis
import structlog

from roomgrad.names import Names
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import AnyAddress, ServerAddress
from roomgrad.runtime import health_file
from roomgrad.web import serving
from roomgrad.web.dashboard.page import Page
from roomgrad.web.dashboard.settings import PORT, DashboardSettings
from roomgrad.web.dashboard.watch import Watch
from roomgrad.web.serving import Listener
from roomgrad.web.store import Store

log = structlog.get_logger("roomgrad")

MOST_STORES = 100  # servers of a cluster to which connections are kept


class DashboardServer:
    """One dashboard. `serve` blocks until `stop`, which a signal handler may call."""

    def __init__(self, settings: DashboardSettings, url: AnyAddress) -> None:
        self._settings = settings
        self._url = url
        self._ending = threading.Event()
        self._stores: dict[ServerAddress, Store[redis.Redis]] = {}
        self.listener = Listener(settings, PORT)
        self.page = Page(self._store, settings.run, self._watch)

    @property
    def url(self) -> str:
        """The address of the page, with its token if it asks for one."""
        return self.listener.url

    @property
    def is_serving(self) -> bool:
        """Whether the web server accepts requests."""
        return self.listener.is_serving

    def serve(self) -> int:
        """Serve until `stop` is called; return the exit code."""
        self.listener.start(self.page.app(), ended=self.stop)
        log.info("the dashboard is at", url=self.url)
        with health_file.renewed(self._settings.health_file, self.listener.health):
            self._ending.wait()
        self.page.close()
        self.listener.stop()
        for store in self._stores.values():
            store.close()
        return 0

    def stop(self) -> None:
        """Ask the server to end."""
        self._ending.set()

    def _store(self, run: str) -> Store[redis.Redis]:
        """Return the connection for a run: in a cluster, runs are on different servers."""
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
    """Run the dashboard until SIGTERM or SIGINT; exit with 0, or with 2 for wrong settings."""
    serving.main(
        "dashboard",
        DashboardSettings,
        lambda loaded: DashboardServer(loaded, address(loaded.redis_url, loaded.redis_ca_file)),
    )
