"""Asks a page as a program does, without a browser."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any

from services.labelling.site import Site


class Caller:
    """Asks a page as a program does, with any headers."""

    def __init__(self, site: Site) -> None:
        self.host, self.port = site.door.socket.getsockname()[:2]
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
