"""Requests to a page without a browser."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any, Protocol
from urllib.parse import urlencode

from roomgrad.web.serving import Listener
from tests.waiting import until


class Served(Protocol):
    """A page that serves."""

    listener: Listener


class HttpClient:
    """An HTTP client of a page that sends any headers."""

    def __init__(self, site: Served) -> None:
        self.host, self.port = site.listener.socket.getsockname()[:2]
        self.name = f"127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(link):
            link.putrequest(method, path, skip_host=True)
            for name, value in {"Host": self.name, **(headers or {})}.items():
                link.putheader(name, value)
            if body is not None:
                link.putheader("Content-Length", str(len(body)))
            link.endheaders(body)
            answer = link.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        status, _, body = self.ask("GET", path, headers=headers)
        return status, json.loads(body)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"Origin": f"http://{self.name}", "Content-Type": "application/json"}
        status, _, found = self.ask("POST", path, text, {**own, **headers})
        return status, json.loads(found)

    def changes(self, topic: str, run: str = "", since: str = "") -> dict[str, Any]:
        """Wait for a response that holds a topic; return it."""

        def read() -> dict[str, Any] | None:
            _, found = self.get(f"/api/changes?{urlencode({'run': run, 'since': since})}")
            return found if topic in found["topics"] else None

        return until(read)
