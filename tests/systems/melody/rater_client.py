"""A browser of a rater, as far as the server of the page can tell."""

from __future__ import annotations

import json
import urllib.request
import uuid
from typing import Any

from tests.waiting import until

FIRST_QUESTION_S = 10.0


class RaterClient:
    """A browser, as far as the server of the page can tell."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.origin = address.partition("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def open(self) -> str:
        """Return the page at the address, which has its token."""
        with self._opener.open(self.address, timeout=20) as answer:
            return str(answer.read().decode())

    def ask(self, path: str, **body: Any) -> Any:
        """Send GET, or POST if there is a body."""
        headers = {"Origin": self.origin, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.origin}{path}", data, headers)
        with self._opener.open(request, timeout=20) as answer:
            return json.load(answer)

    def questions(self, count: int) -> list[dict[str, Any]]:
        """Return questions that are leased to Ada."""
        found: dict[str, Any] = self.ask("/api/questions", rater="Ada", count=count)
        return list(found["questions"])

    def question(self) -> dict[str, Any]:
        """Return one of them."""
        return until(lambda: self.questions(1))[0]

    def learning(self) -> dict[str, Any]:
        """Return what the page shows of the learner."""
        return dict(self.ask("/api/state")["learning"])

    def answer(self, question: dict[str, Any], rating: int) -> None:
        about = {name: question[name] for name in ("melody", "root")}
        self.ask("/api/answers", rater="Ada", rating=rating, id=uuid.uuid4().hex, **about)
