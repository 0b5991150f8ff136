"""Who may speak to the page: own names, own origin, and a token where strangers reach it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
OPEN = ("/healthz",)  # needs no token: says nothing but whether it works
LOCAL = ("localhost", "127.0.0.1", "::1")


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Wraps the application: refuses what should not come in, and puts headers on what goes out.

    token: empty where the page asks for none. hosts: names under which browsers may reach it,
    beside those of this machine.
    """

    def __init__(self, app: ASGIApp, token: str, local: bool, hosts: tuple[str, ...] = ()) -> None:
        self._app = app
        self._token = token
        self._local = local
        self._hosts = {*LOCAL, *(each.lower() for each in hosts)}
        if not local:
            self._hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        # Cookies know no ports: a name of its own for each token, so that two pages get along.
        self.cookie = f"roomgrad-{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(Request(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to what may not come in; None for everything else."""
        if not self._is_own_name(request.headers.get("host", "")):
            # Else a page of somebody else could lead its own name here, and read everything.
            return refuse(403, "the page is not known by this name: see the setting HOSTS")
        if request.method not in ("GET", "HEAD") and not _is_own_origin(request):
            return refuse(403, "only the page itself may do this, not the page of somebody else")
        if self._token and request.url.path not in OPEN:
            return self._without_token(request)
        return None

    def _is_own_name(self, host: str) -> bool:
        name = _name(host)
        if name in self._hosts:
            return True
        # A number cannot be led elsewhere, as the name of an attacker can.
        return not self._local and _is_number(name)

    def _without_token(self, request: Request) -> Response | None:
        given = request.query_params.get("token", "")
        if request.url.path == "/" and self._fits(given):
            response = RedirectResponse("/", 303)  # so that the token leaves the address bar
            response.set_cookie(
                self.cookie, self._token, httponly=True, samesite="strict", max_age=30 * 24 * 3600
            )
            return response
        if self._fits(request.cookies.get(self.cookie, "")):
            return None
        return refuse(401, "open the address with its token, as the log of the page shows it")

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


def refuse(status: int, reason: str) -> Response:
    """An answer that says why not."""
    return JSONResponse({"reason": reason}, status)


def _is_own_origin(request: Request) -> bool:
    """Whether a page of this very address asks; browsers name the origin of every POST."""
    origin = request.headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == request.headers.get("host", "")


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
