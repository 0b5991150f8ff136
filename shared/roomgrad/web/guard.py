"""Access to a page: known host names, requests of its own origin, and a token for other machines.

starlette's TrustedHostMiddleware is not used: it cannot let in any IP address but no unknown name,
as a page needs that listens at all addresses, and it answers in plain text without a reason.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import ipaddress
import re
import socket
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roomgrad.web.connections import MOST_HEADER_BYTES
from roomgrad.web.rates import Rates

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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
OPEN = ("/healthz",)  # needs no token and has no limit: it tells only whether the page works
MOST_PER_S, MOST_AT_ONCE = 200, 1000  # requests from one address
WRONG_PER_S, WRONG_AT_ONCE = 1, 20  # wrong tokens from one address
LOCAL = ("localhost", "127.0.0.1", "::1")
COOKIE_S = 30 * 24 * 3600

WITHOUT_TOKEN = (
    "open the address with its token (?token=...): the page logs it when it starts, in a container "
    "for `docker compose logs`, and after `roomgrad up` in the folder .roomgrad"
)
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>roomgrad</title>
<h1>This page cannot be shown</h1>
<p>{reason}</p>
</html>
"""


def is_local(host: str) -> bool:
    """Return whether a socket at this address can be reached from this machine alone."""
    return ipaddress.ip_address(host).is_loopback if _is_number(host) else host == "localhost"


class Guard:
    """Middleware that refuses requests from elsewhere and adds security headers to responses.

    token: empty if the page asks for none. hosts: names by which browsers may reach the page,
    beside those of this machine.
    """

    def __init__(self, app: ASGIApp, token: str, local: bool, hosts: tuple[str, ...] = ()) -> None:
        self._app = app
        self._token = token
        self._local = local
        self._named = {name.lower() for name in hosts}
        self._hosts = {*LOCAL, *self._named}
        if not local:
            self._hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        self._requests = Rates(MOST_PER_S, MOST_AT_ONCE)
        self._wrong = Rates(WRONG_PER_S, WRONG_AT_ONCE)
        # Cookies are shared by all ports of a host: with a name of its own for each token, two
        # pages do not overwrite each other's.
        self.cookie = f"roomgrad-{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        app = self._refusal(Request(scope)) or self._app
        await app(scope, receive, send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """Return the response to a request that is not let in, None for any other."""
        if _size(request.scope) > MOST_HEADER_BYTES:
            return refuse(431, f"address and headers may have {MOST_HEADER_BYTES} bytes at most")
        if not self._is_own_name(request.headers.get("host", "")):
            # Otherwise a foreign page could point its own name here (DNS rebinding) and read all.
            return refuse(403, "the page is not known by this name: see the setting ROOMGRAD_HOSTS")
        if not self._is_of_own_page(request):
            return refuse(403, "only the page itself may do this, not a page of another site")
        if request.scope["path"] in OPEN:
            return None
        if not self._requests.take(_address(request)):
            reason = f"more than {MOST_PER_S} requests a second: try again in a second"
            return refuse(429, reason, 1)
        return self._without_token(request) if self._token else None

    def _is_of_own_page(self, request: Request) -> bool:
        """Return whether a page of this origin sends the request, or the user opens the page.

        Browsers send `Sec-Fetch-Site` with every request by HTTPS or to this machine, and the
        origin with every POST.
        """
        site = request.headers.get("sec-fetch-site", "")
        if request.method in ("GET", "HEAD"):
            return site not in ("cross-site", "same-site") or request.scope["path"] == "/"
        return site == "same-origin" if site else self._is_own_origin(request)

    def _is_own_origin(self, request: Request) -> bool:
        host = request.headers.get("host", "")
        scheme, _, place = request.headers.get("origin", "").partition("://")
        name = _name(place)
        # A proxy may replace the Host by its own, or leave out the port. All requests that change
        # something are JSON, which another page cannot send without asking first.
        own = place == host or name == host.lower() or name in self._named
        return scheme in ("http", "https") and own

    def _is_own_name(self, host: str) -> bool:
        name = _name(host)
        # An attacker can point a name of their own here, but not an IP address.
        return name in self._hosts or (not self._local and _is_number(name))

    def _without_token(self, request: Request) -> Response | None:
        """Let in requests with the cookie, set it for those with the token, refuse the others."""
        given, cookie = request.query_params.get("token", ""), request.cookies.get(self.cookie, "")
        enters = request.scope["path"] == "/" and self._fits(given)
        if self._fits(cookie):
            return self._welcome(request) if enters else None
        # Checked after the cookie: people behind one address share their wrong tokens, too.
        address = _address(request)
        if self._wrong.is_spent(address):
            return refuse(429, "too many wrong tokens came from there: try again in a second", 1)
        if enters:
            return self._welcome(request)
        if cookie or (given and not self._fits(given)):
            self._wrong.take(address)
        return refuse(401, WITHOUT_TOKEN)

    def _welcome(self, request: Request) -> Response:
        """Return a redirect that moves the token from the address into a cookie.

        The cookie is sent, too, if a link of another site leads here, but with no other request
        of that site. Address and cookie are relative: a proxy may serve the page below a path.
        """
        response = RedirectResponse("./", 303)
        response.set_cookie(
            self.cookie,
            self._token,
            max_age=COOKIE_S,
            path=None,
            secure=request.scope["scheme"] == "https",
            httponly=True,
            samesite="lax",
        )
        return response

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


class Refusal(JSONResponse):
    """A response that gives the reason: a page for people, JSON for programs, by `Accept`."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None) -> None:
        super().__init__({"reason": reason}, status, headers)
        self._page = HTMLResponse(PAGE.format(reason=html.escape(reason)), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the page or the JSON."""
        if "text/html" in Headers(scope=scope).get("accept", ""):
            await self._page(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def refuse(status: int, reason: str, retry_after_s: int = 0) -> Response:
    """Return a response that gives the reason, and when to try again if that may help."""
    return Refusal(status, reason, {"retry-after": str(retry_after_s)} if retry_after_s else None)


def _size(scope: Scope) -> int:
    """Return the bytes of address and headers: h11 has no limit for those of a single read."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?")


def _name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    found = _HOST.fullmatch(host.lower())
    return (found[1] or found[2]).removesuffix(".") if found else ""


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
