"""What comes home to a guest: the messages of its stream, until they are taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import redis

from roomgrad.errors import MessageError
from roomgrad.gather import add_up
from roomgrad.messages import Message
from roomgrad.redis.streams import START, read_after
from roomgrad.rooms import MessageType

RETRY_S = 0.1

Received = Callable[[str, dict[bytes, bytes]], tuple[str, Message | str]]
"""Returns the ROOT_ID of an entry, and its message or why there is none."""


class GuestAnswers:
    """The answers of open roots. Of the threads that wait, one reads for all."""

    def __init__(
        self,
        client: redis.Redis,
        key: str,
        received: Received,
        is_open: Callable[[str], bool],
        senders: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._client, self._key = client, key
        self._received, self._is_open, self._senders = received, is_open, senders
        self.position = START  # the last entry that was read
        self.count = 0  # of the times that something arrived
        self._answers: dict[str, dict[str, Message]] = {}  # by ROOT_ID and TYPE
        self._parts: dict[str, dict[str, Message]] = {}  # gradients to be added, by their sender
        self._lost: dict[str, str] = {}  # by ROOT_ID, why it was given up
        self._arrived = threading.Condition()
        self._reading = False

    def take(self, root_id: str, type_: str) -> Message | None:
        """Return a message once, or None if it has not arrived."""
        with self._arrived:
            return self._answers.get(root_id, {}).pop(type_, None)

    def take_reason(self, root_id: str) -> str:
        """Return once why a root was given up; an empty text if it was not."""
        with self._arrived:
            return self._lost.pop(root_id, "")

    def take_all(self) -> tuple[dict[str, str], list[Message]]:
        """Return why roots were given up, by ROOT_ID, and the messages of all others."""
        with self._arrived:
            lost, self._lost = self._lost, {}
            came, self._answers = self._answers, {}
        messages = [
            m for root_id, each in came.items() if root_id not in lost for m in each.values()
        ]
        return lost, messages

    def forget(self, root_id: str) -> None:
        """Drop the messages of a root that is not open any more."""
        self._answers.pop(root_id, None)
        self._parts.pop(root_id, None)

    def lose(self, root_ids: Iterable[str], reason: str) -> None:
        """Tell those that wait for these roots that they were given up."""
        with self._arrived:
            self._lost.update(dict.fromkeys(root_ids, reason))
            self._tell()

    def read(self, seconds: float, seen: int) -> None:
        """Wait until something arrives, to this thread or another.

        seen: `count` before the caller looked for what it waits for; if it has changed since,
            there is nothing to wait for.
        """
        with self._arrived:
            if self.count != seen:
                return
            if self._reading:
                self._arrived.wait(seconds)
                return
            self._reading = True
        found = []
        try:
            positions = {self._key: self.position}
            found = read_after(self._client, positions, seconds)
            self.position = positions[self._key]
        except (redis.ConnectionError, redis.TimeoutError):
            self.position = START  # the next master's clock, so its entry IDs, may be behind
            time.sleep(RETRY_S)
        finally:
            with self._arrived:
                self._reading = False
                for _, entry, values in found:
                    self._keep(*self._received(entry, values))
                self._tell()

    def _tell(self) -> None:
        self.count += 1
        self._arrived.notify_all()

    def _keep(self, root_id: str, found: Message | str) -> None:
        if not self._is_open(root_id):
            return
        try:
            whole = found if isinstance(found, str) else self._whole(found)
        except MessageError as error:
            whole = str(error)
        if isinstance(whole, str):
            self._lost[root_id] = whole
        elif whole is not None:
            self._answers.setdefault(root_id, {})[whole.type] = whole

    def _whole(self, message: Message) -> Message | None:
        """Return a message, or the sum of the gradients of a branch when all are there."""
        is_gradient = message.type == MessageType.GRADIENT.value
        senders = self._senders(message.room) if is_gradient else ()
        if not senders:
            return message
        parts = self._parts.setdefault(message.root_id, {})
        parts.setdefault(message.sent_by, message)
        return add_up([parts[n] for n in senders]) if {*senders} <= parts.keys() else None
