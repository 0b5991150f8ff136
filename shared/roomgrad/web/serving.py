"""A page as a process: its socket, its token, its web server, and how it ends."""

from __future__ import annotations

import atexit
import mimetypes
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import structlog
import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from roomgrad import log as logs
from roomgrad.errors import MessageError, RoomgradError, RunMismatch, SettingsError, Unavailable
from roomgrad.flags import load
from roomgrad.redis.heartbeats import LONGEST_TURN_S
from roomgrad.runtime.health_file import FAILED, WELL, Health
from roomgrad.web.connections import MOST_HEADER_BYTES, Connection
from roomgrad.web.guard import Guard, is_local, refuse
from roomgrad.web.settings import WebSettings

log = structlog.get_logger("roomgrad")

S = TypeVar("S", bound=WebSettings)

SHARED = Path(__file__).parent / "static"
PORTS_TRIED = 50
SHORTEST_TOKEN = 16  # characters
LAST_RESORT_S = 1.7  # from the signal until the process ends, whatever still runs

mimetypes.add_type("text/javascript", ".js")  # some machines register another type, or none


class Server(Protocol):
    """What `main` runs."""

    def serve(self) -> int:
        """Serve until `stop` is called; return the exit code."""

    def stop(self) -> None:
        """Ask the server to end. Called by a signal handler."""


def main(name: str, settings: type[S], make: Callable[[S], Server]) -> None:
    """Run a server until SIGTERM or SIGINT; exit with 0, or with 2 for wrong settings."""
    try:
        loaded = load(settings)
        logs.setup(loaded.log_level, loaded.log_format)
        server = make(loaded)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            server.stop()
            signal.setitimer(signal.ITIMER_REAL, LAST_RESORT_S)

        def end(_signal: int, _frame: FrameType | None) -> None:
            os._exit(0)  # a request that hangs does not keep the process

        signal.signal(signal.SIGALRM, end)
        # At exit Python removes its handlers; an alarm would then kill the process.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        code = server.serve()
    except RoomgradError as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)


class Listener:
    """A listening socket, the token that visitors need, and a thread with the web server."""

    def __init__(self, settings: WebSettings, first_port: int) -> None:
        self._settings = settings
        self._stopping = False
        self._web: uvicorn.Server | None = None
        self._turn = time.monotonic()  # when the web server's loop last told that it turns
        self.token = _token(settings)
        self.socket = bound(settings, first_port)

    @property
    def address(self) -> str:
        """The address of the page, without the token."""
        host, port = self.socket.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = next(iter(self._settings.named_hosts), socket.gethostname())
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{port}/"

    @property
    def url(self) -> str:
        """The address of the page, with its token if it asks for one."""
        return self.address + (f"?token={self.token}" if self.token else "")

    @property
    def is_serving(self) -> bool:
        """Whether the web server accepts requests."""
        return self._web is not None and self._web.started

    def health(self) -> Health:
        """Return whether the web server's loop turns."""
        still_s = time.monotonic() - self._turn
        if still_s > LONGEST_TURN_S:
            return Health(FAILED, f"the web server has not advanced for {still_s:.0f} s")
        return Health(WELL, f"the page at port {self.socket.getsockname()[1]} is well.")

    async def _turned(self) -> None:
        self._turn = time.monotonic()

    def start(self, app: ASGIApp, ended: Callable[[], None]) -> None:
        """Serve an application in a thread. ended: called if the web server ends by itself."""
        self._web = web = self.server(app)

        def run() -> None:
            try:
                web.run(sockets=[self.socket])
            finally:
                if not self._stopping:
                    log.error("the web server has ended")
                    ended()

        self._thread = threading.Thread(target=run, name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the web server, and wait for its requests for a moment."""
        if self._web is not None:
            self._stopping = self._web.should_exit = True
            self._thread.join(LAST_RESORT_S)

    def server(self, app: ASGIApp) -> uvicorn.Server:
        """Return a web server for an application behind the guard."""
        settings = self._settings
        guarded = Guard(app, self.token, is_local(settings.host), settings.named_hosts)
        return uvicorn.Server(
            uvicorn.Config(
                guarded,
                http=Connection,
                ws="none",
                h11_max_incomplete_event_size=MOST_HEADER_BYTES,
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,  # an address may contain the token
                server_header=False,
                proxy_headers=bool(settings.proxies),
                forwarded_allow_ips=settings.proxies,
                timeout_graceful_shutdown=1,
                callback_notify=self._turned,
                timeout_notify=1,
            )
        )


def bound(settings: WebSettings, first_port: int) -> socket.socket:
    """Return a listening socket at the port of the settings, or at the first free one.

    Raises SettingsError if the port of the settings is taken, or the host is not of this machine.
    """
    host = settings.host
    ports = [settings.port] if settings.port else range(first_port, first_port + PORTS_TRIED)
    for port in ports:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family = found[0][0]
            dual = family == socket.AF_INET6
            return socket.create_server(
                (host, port), family=family, backlog=128, dualstack_ipv6=dual
            )
        except OSError as error:
            reason = (error.strerror or str(error)).partition(" (while")[0]
    raise SettingsError(
        f"the page cannot listen at {host}, port {ports[0]}: {reason}; name another one by --port"
    )


def _token(settings: WebSettings) -> str:
    """Return the token of the file or a new one; an empty text if no other machine can connect."""
    path = settings.token_file
    if not path:
        return "" if is_local(settings.host) else secrets.token_urlsafe(24)
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        reason = error.strerror
        raise SettingsError(f"the file of the token {path} cannot be read: {reason}") from error
    if len(token) < SHORTEST_TOKEN:
        raise SettingsError(
            f"the token in {path} has {len(token)} characters, needed are {SHORTEST_TOKEN}"
        )
    return token


# parts of every application


def files(own: Path) -> list[BaseRoute]:
    """Return the routes of a page: its `index.html`, its own files, those that all pages share.

    In `index.html`, the comment `<!-- head -->` stands for the shared file `head.html`, and so on.
    """
    html = (own / "index.html").read_text("utf-8")
    for part in SHARED.glob("*.html"):
        html = html.replace(f"<!-- {part.stem} -->", part.read_text("utf-8").strip())

    def index(_request: Request) -> Response:
        return HTMLResponse(html, headers={"cache-control": "no-cache"})

    return [
        Route("/", index),
        Mount("/static", StaticFiles(directory=own)),
        Mount("/shared", StaticFiles(directory=SHARED)),
    ]


def _refuse_with(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_request: Request, error: Exception) -> Response:
        return refuse(status, str(error))

    return handle


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, error.detail)


async def _on_failure(request: Request, error: Exception) -> Response:
    log.error("a request failed", path=request.url.path, exc_info=error)
    return refuse(500, "this went wrong here; the log of the page says why")


EXCEPTION_HANDLERS: Mapping[Any, Any] = {
    MessageError: _refuse_with(422),
    Unavailable: _refuse_with(503),
    HTTPException: _on_http_error,
    Exception: _on_failure,
}
