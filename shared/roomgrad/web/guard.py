"""Who may speak to the page: own names, own origin, and a token where strangers reach it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roomgrad.web.connections import MOST_HEADER_BYTES
from roomgrad.web.rates import Rates

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
MOST_PER_S, MOST_AT_ONCE = 200, 1000  # requests from one address
WRONG_PER_S, WRONG_AT_ONCE = 1, 20  # wrong tokens from one address
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
        self._requests = Rates(MOST_PER_S, MOST_AT_ONCE)
        self._wrong = Rates(WRONG_PER_S, WRONG_AT_ONCE)
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
        if _size(request.scope) > MOST_HEADER_BYTES:
            return refuse(431, f"address and headers may have {MOST_HEADER_BYTES} bytes at most")
        if not self._is_own_name(request.headers.get("host", "")):
            # Else a page of somebody else could lead its own name here, and read everything.
            return refuse(403, "the page is not known by this name: see the setting HOSTS")
        if not _is_of_own_page(request):
            return refuse(403, "only the page itself may do this, not the page of somebody else")
        if request.url.path in OPEN:
            return None
        if not self._requests.take(_address(request)):
            return refuse(
                429, f"more than {MOST_PER_S} requests a second: try again in a second", 1
            )
        return self._without_token(request) if self._token else None

    def _is_own_name(self, host: str) -> bool:
        name = _name(host)
        if name in self._hosts:
            return True
        # A number cannot be led elsewhere, as the name of an attacker can.
        return not self._local and _is_number(name)

    def _without_token(self, request: Request) -> Response | None:
        """Lets in who has the cookie, gives it to who shows the token, and refuses the others."""
        given, cookie = request.query_params.get("token", ""), request.cookies.get(self.cookie, "")
        comes = request.url.path == "/" and self._fits(given)
        if self._fits(cookie):
            return self._welcome() if comes else None
        # Whoever is in stays in: others may come from the same address.
        address = _address(request)
        if self._wrong.is_spent(address):
            return refuse(429, "too many wrong tokens came from there: try again in a second", 1)
        if comes:
            return self._welcome()
        if cookie or (given and not self._fits(given)):
            self._wrong.take(address)
        return refuse(401, "open the address with its token, as the log of the page shows it")

    def _welcome(self) -> Response:
        """Puts the token into a cookie, and out of the address."""
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self.cookie, self._token, httponly=True, samesite="strict", max_age=30 * 24 * 3600
        )
        return response

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


def refuse(status: int, reason: str, after_s: int = 0) -> Response:
    """An answer that says why not, and in how many seconds perhaps."""
    headers = {"retry-after": str(after_s)} if after_s else None
    return JSONResponse({"reason": reason}, status, headers)


def _is_of_own_page(request: Request) -> bool:
    """Whether a page of this very address asks, or a person who goes to the page.

    Browsers name the origin of every POST, and say of every request whether another site asks.
    """
    host = request.headers.get("host", "")
    if request.method not in ("GET", "HEAD"):
        return request.headers.get("origin", "") in (f"http://{host}", f"https://{host}")
    foreign = request.headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    return not foreign or request.url.path == "/"


def _size(scope: Scope) -> int:
    """Bytes of the address and the headers: what comes in one piece nobody else bounds."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?")


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    found = _HOST.fullmatch(host.lower())
    return (found[1] or found[2]).removesuffix(".") if found else ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
