"""The page as a process: a replica that listens in the rooms, and a web server beside it."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import orjson
import structlog
import uvicorn

from roomgrad import log as logs
from roomgrad.client import Client
from roomgrad.codec import pack
from roomgrad.contracts.melody import LABELLING
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.runtime.replica import Replica
from roomgrad.server import address
from roomgrad.settings import load
from services.labelling.board import Board
from services.labelling.events import Events
from services.labelling.guard import Guard, is_local
from services.labelling.handlers import component
from services.labelling.page import Page
from services.labelling.settings import PORT, LabellingSettings
from services.labelling.store import Away, Store

log = structlog.get_logger("roomgrad")

REFRESH_S = 0.25  # the shortest time between two events
LOOK_S = 1.0  # so often the tables are looked at, even when no message came
PORTS_TRIED = 50
LAST_RESORT_S = 1.7  # from the signal to the end, whatever still hangs


class Site:
    """One page. `serve` blocks until `stop`, which a signal handler may call."""

    def __init__(self, settings: LabellingSettings, url: str) -> None:
        self.settings = settings
        self.token = _token(settings)
        self.socket = bound(settings)
        self._changed = threading.Event()
        self.events = Events(self._changed.set)
        self._ending = threading.Event()
        self._announced = False
        self._replica = Replica(component(self._changed.set), settings, url)
        self.names = self._replica.names
        self._store = Store(settings.run, url, settings.redis_password_file)
        self._board = Board(self.names, settings)
        self._reading = threading.Lock()
        self._web = uvicorn.Server(self._config())

    @property
    def url(self) -> str:
        """The address of the page, with its token where one is needed."""
        host, port = self.socket.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = next(iter(self.settings.named_hosts), socket.gethostname())
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def is_serving(self) -> bool:
        """Whether the web server answers and the replica listens."""
        return self._web.started and self._replica.pulse.token != ""

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

    def _config(self) -> uvicorn.Config:
        page = Page(self.settings, self._store, self.events, self._snapshot, self._trouble)
        local = is_local(self.settings.host)
        return uvicorn.Config(
            Guard(page.app(), self.token, local, self.settings.named_hosts),
            http="h11",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,  # an address may hold the token
            server_header=False,
            timeout_graceful_shutdown=1,
        )

    def _serve_web(self) -> None:
        try:
            self._web.run(sockets=[self.socket])
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
            except Away as error:
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
        return orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY)

    def _trouble(self) -> str:
        pulse = self._replica.pulse
        still_s = time.time() - pulse.turn
        if still_s > 10:
            return f"the page has not heard of the server for {still_s:.0f} s"
        return ""


def _away(reason: str) -> bytes:
    return orjson.dumps({"server": {"connected": False, "reason": reason}})


def bound(settings: LabellingSettings) -> socket.socket:
    """A listening socket. Raises SettingsError when the port that was asked for is taken."""
    ports = [settings.port] if settings.port else range(PORT, PORT + PORTS_TRIED)
    for port in ports:
        try:
            return _listening(settings.host, port)
        except OSError as error:
            reason = error.strerror or str(error)
    raise SettingsError(
        f"the page cannot listen at {settings.host}, port {ports[0]}: {reason}; "
        "name another one by --port"
    )


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(where)
        found.listen(128)
    except OSError:
        found.close()
        raise
    return found


def _token(settings: LabellingSettings) -> str:
    """What visitors need: the secret that was given, a new one, or nothing on this machine."""
    if settings.token_file:
        try:
            token = Path(settings.token_file).read_text().strip()
        except OSError as error:
            raise SettingsError(
                f"the file of the token {settings.token_file} cannot be read: {error.strerror}"
            ) from error
        if len(token) < 16:
            raise SettingsError(
                f"the token in {settings.token_file} has {len(token)} characters, needed are 16"
            )
        return token
    return "" if is_local(settings.host) else secrets.token_urlsafe(24)


def main() -> None:
    """Runs the page until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    try:
        settings = load(LabellingSettings)
        logs.setup(settings.log_level, settings.log_format)
        site = Site(settings, address(settings.redis_url))

        def stop(_signal: int, _frame: FrameType | None) -> None:
            site.stop()
            signal.setitimer(signal.ITIMER_REAL, LAST_RESORT_S)

        def end(_signal: int, _frame: FrameType | None) -> None:
            os._exit(0)  # a request that hangs does not keep the process

        signal.signal(signal.SIGALRM, end)
        # Python forgets its handlers before it is gone; an alarm would kill it then.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        code = site.serve()
    except RoomgradError as error:
        print(f"labelling: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)
