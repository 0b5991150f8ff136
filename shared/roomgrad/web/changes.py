"""What a page shows, topic by topic, for pages that ask again and again what has changed.

Requests that end at once instead of server-sent events: a browser has six connections to a server
for all its tabs, so that six streams would hold back everything else, and a proxy may buffer a
stream.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

FOLLOWED_S = 5.0  # after the last request, so that a reload finds the run still read


class Changes:
    """The newest state of each topic, as JSON.

    `publish` and `forget` may be called from any thread. needed: called when a page asks and
    nothing is published.
    """

    def __init__(self, needed: Callable[[], None]) -> None:
        self._needed = needed
        self._epoch = secrets.token_hex(4)  # of this process; another one counts from 0 again
        self._number = 0
        self._states: dict[str, tuple[int, bytes]] = {}  # by topic: number of the change, JSON
        self._asked_at = float("-inf")

    @property
    def is_followed(self) -> bool:
        """Whether a page has asked a moment ago."""
        return time.monotonic() - self._asked_at < FOLLOWED_S

    @property
    def holds_states(self) -> bool:
        """Whether a request would get any state."""
        return bool(self._states)

    def publish(self, state: bytes, topic: str = "state") -> None:
        """Store the state of a topic, unless it equals the one before."""
        if self._states.get(topic, (0, b""))[1] != state:
            self._number += 1
            self._states[topic] = (self._number, state)

    def forget(self) -> None:
        """Forget all states: they are not read any more, so the next page must not see them."""
        self._states = {}

    def since(self, mark: str) -> bytes:
        """Return what has changed since a response, as JSON.

        mark: the `since` of that response; of an empty or any other text, everything is new.
        """
        self._asked_at = time.monotonic()
        states = sorted((*state, topic) for topic, state in list(self._states.items()))
        if not states:
            self._needed()
        seen = self._number_of(mark)
        newest = states[-1][0] if states else seen
        new = [b'"%s":%s' % (topic.encode(), state) for n, state, topic in states if n > seen]
        mark = f"{self._epoch}-{newest}" if newest else ""
        return b'{"since":"%s","topics":{%s}}' % (mark.encode(), b",".join(new))

    def _number_of(self, mark: str) -> int:
        epoch, _, number = mark.partition("-")
        known = epoch == self._epoch and number.isdecimal() and len(number) < 16
        return int(number) if known else 0
