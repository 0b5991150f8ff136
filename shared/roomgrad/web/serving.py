"""A page as a process: its socket, its token, its web server, and how it ends."""

from __future__ import annotations

import atexit
import mimetypes
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

import structlog
import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from roomgrad import log as logs
from roomgrad.errors import MessageError, RoomgradError, RunMismatch, SettingsError
from roomgrad.settings import load
from roomgrad.web.connections import MOST_HEADER_BYTES, Connection
from roomgrad.web.guard import Guard, is_local, refuse
from roomgrad.web.settings import WebSettings

log = structlog.get_logger("roomgrad")

S = TypeVar("S", bound=WebSettings)

SHARED = Path(__file__).parent / "static"
PORTS_TRIED = 50
LAST_RESORT_S = 1.7  # from the signal to the end, whatever still hangs

mimetypes.add_type("text/javascript", ".js")  # some machines know another type, or none


class Unavailable(Exception):
    """Raised when the server cannot be asked now; the text is for the person at the page."""


class Server(Protocol):
    """What `main` runs."""

    def serve(self) -> int:
        """Serves until `stop`; the exit code."""

    def stop(self) -> None:
        """Asks it to end."""


def main(name: str, settings: type[S], make: Callable[[S], Server]) -> None:
    """Runs a site until SIGTERM or SIGINT; exits 0, or 2 for wrong settings."""
    try:
        loaded = load(settings)
        logs.setup(loaded.log_level, loaded.log_format)
        site = make(loaded)

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
        print(f"{name}: {error}", file=sys.stderr)
        code = 2 if isinstance(error, SettingsError | RunMismatch) else 1
    sys.exit(code)


class Listener:
    """Where a page listens, and the token that its visitors need."""

    def __init__(self, settings: WebSettings, first_port: int) -> None:
        self._settings = settings
        self.token = _token(settings)
        self.socket = bound(settings, first_port)

    @property
    def url(self) -> str:
        """The address of the page, with its token where one is needed."""
        host, port = self.socket.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = next(iter(self._settings.named_hosts), socket.gethostname())
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")

    def server(self, app: ASGIApp) -> uvicorn.Server:
        """A web server for an application, behind the guard."""
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
                access_log=False,  # an address may hold the token
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )


def bound(settings: WebSettings, first_port: int) -> socket.socket:
    """A listening socket. Raises SettingsError when the port that was asked for is taken."""
    ports = [settings.port] if settings.port else range(first_port, first_port + PORTS_TRIED)
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


def _token(settings: WebSettings) -> str:
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


# what every application has


def files(own: Path) -> list[Mount]:
    """Where a page finds its own files, and those that it shares with others."""
    return [
        Mount("/static", StaticFiles(directory=own)),
        Mount("/shared", StaticFiles(directory=SHARED)),
    ]


def index(own: Path) -> Response:
    """The page itself."""
    return FileResponse(own / "index.html", headers={"cache-control": "no-cache"})


async def _wrong(_request: Request, error: Exception) -> Response:
    return refuse(422, str(error))


async def _away(_request: Request, error: Exception) -> Response:
    return refuse(503, str(error))


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, error.detail)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a request failed", path=request.url.path, exc_info=error)
    return refuse(500, "this went wrong here; the log of the page says why")


TROUBLE: Mapping[Any, Any] = {
    MessageError: _wrong,
    Unavailable: _away,
    HTTPException: _refused,
    Exception: _failed,
}
