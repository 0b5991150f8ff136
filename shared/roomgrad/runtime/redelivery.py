"""Messages that come a second time: left by dead replicas, or due for another try."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator

import structlog

from roomgrad.redis.connection import Connection
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.consumers import Delivery, GroupConsumer, deliveries
from roomgrad.runtime.status import Status
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

RETRY_S = (0.1, 5.0)  # first and longest pause before a handler that raised is tried again


class Redelivery:
    """Claims one message at a time by XCLAIM, so that the server counts every delivery."""

    def __init__(
        self, source: GroupConsumer, line: Connections, pulse: Status, settings: RuntimeSettings
    ) -> None:
        self._source = source
        self._line = line
        self._pulse = pulse
        self._lease_ms = round(settings.lease_s * 1000)
        self._retries: list[tuple[float, bytes, str]] = []

    def retry_later(self, delivery: Delivery) -> float:
        """Notes that a delivery is to be tried again, and answers in how many seconds."""
        pause: float = min(RETRY_S[0] * 2 ** (delivery.count - 1), RETRY_S[1])
        key = self._source.key_of(delivery)
        heapq.heappush(self._retries, (time.monotonic() + pause, key, delivery.entry))
        return pause

    def due_in_s(self) -> float | None:
        """Seconds until a retry is due, or None where none waits. Orphans are due now."""
        if self._pulse.orphans:
            return 0.0
        return max(0.0, self._retries[0][0] - time.monotonic()) if self._retries else None

    def due(self) -> Iterator[Delivery]:
        """What is due, claimed. The lease is checked again by the server: one replica wins.

        Take one and handle it before the next: what ends its process must not take others along.
        """
        while self._pulse.orphans:
            key, entry = self._pulse.orphans.popleft()
            if any((key, entry) == waiting[1:] for waiting in self._retries):
                continue
            for delivery in self._claim(key, entry, self._lease_ms):
                log.info("took over what nobody handles", entry=entry, deliveries=delivery.count)
                yield delivery
        while self._retries and self._retries[0][0] <= time.monotonic():
            _, key, entry = heapq.heappop(self._retries)
            yield from self._claim(key, entry, 0)

    def unacknowledged(self) -> list[Delivery]:
        """What was delivered to this consumer before, but whose delivery never arrived."""
        found = deliveries(self._line.call(self._source.own_command()), self._source.by_key)
        for delivery in found:
            delivery.count = self._count(delivery)
        return found

    def clear(self) -> None:
        """Forgets what was to be tried again; `own` finds it after a reconnect."""
        self._retries.clear()

    def _claim(self, key: bytes, entry: str, lease_ms: int) -> list[Delivery]:
        claimed = self._line.call(self._source.claim_command(key, entry, lease_ms))
        found = deliveries([[key, claimed]], self._source.by_key)
        for delivery in found:
            delivery.count = self._count(delivery)
        return found

    def _count(self, delivery: Delivery) -> int:
        pending = self._line.call(self._source.pending_command(delivery))
        return int(pending[0][3]) if pending else 1


def give_back(wire: Connection, source: GroupConsumer, lease_s: float) -> None:
    """Ends the leases of all that is in the hands of a consumer that leaves.

    Its heartbeat has to go, too; then others take over at their next look. This counts as no
    delivery, since nothing was tried.
    """
    for key in source.keys:
        pending = wire.call(source.in_hand_command(key))
        if isinstance(pending, list) and pending:
            entries = [entry[0] for entry in pending]
            wire.call(source.release_command(key, entries, round(lease_s * 1000)))
