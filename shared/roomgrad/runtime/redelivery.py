"""Messages that are delivered again: of dead replicas, due for another try, or held back."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from roomgrad.redis.connection import Command, Connection, ReplyError
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.consumers import Delivery, GroupConsumer, deliveries
from roomgrad.runtime.status import Status
from roomgrad.settings import RuntimeSettings

log = structlog.get_logger("roomgrad")

HANDED_OVER = "handed-over"  # the consumer of messages that any replica may claim
RETRY_S = (0.1, 5.0)  # first and longest pause before a handler that raised is tried again


class Redelivery:
    """Claims one message at a time by XCLAIM, so that the server counts each delivery."""

    def __init__(
        self,
        consumer: GroupConsumer,
        connections: Connections,
        status: Status,
        settings: RuntimeSettings,
    ) -> None:
        self._consumer = consumer
        self._connections = connections
        self._status = status
        self._lease_ms = round(settings.lease_s * 1000)
        self._retries: list[tuple[float, bytes, str]] = []
        self._held: deque[tuple[bytes, str, int]] = deque()  # stream key, entry, deliveries
        self._held_until = 0.0
        self._hold_s = settings.heartbeat_interval_s

    def retry_later(self, delivery: Delivery) -> float:
        """Schedule another try of a message; return in how many seconds."""
        pause: float = min(RETRY_S[0] * 2 ** (delivery.count - 1), RETRY_S[1])
        key = self._consumer.key_of(delivery)
        heapq.heappush(self._retries, (time.monotonic() + pause, key, delivery.entry))
        return pause

    def hold(self, delivery: Delivery) -> None:
        """Hold a message back until memory is free. The first of them is tried every heartbeat."""
        self._held.append((self._consumer.key_of(delivery), delivery.entry, delivery.count))
        self._held_until = time.monotonic() + self._hold_s

    def due_in_s(self) -> float | None:
        """Return the seconds until a message is due, or None; orphaned messages are due now."""
        if self._status.orphans:
            return 0.0
        due = [self._retries[0][0]] if self._retries else []
        due += [self._held_until] if self._held else []
        return max(0.0, min(due) - time.monotonic()) if due else None

    def due(self) -> Iterator[Delivery]:
        """Yield what is due, claimed. The server checks the lease again, so that one replica wins.

        Handle each message before the next: if one ends the process, no other is lost with it.
        """
        while self._status.orphans:
            key, entry = self._status.orphans.popleft()
            if any((key, entry) == waiting[1:] for waiting in self._retries):
                continue
            if any((key, entry) == held[:2] for held in self._held):
                continue
            for delivery in self._claim(key, entry, self._lease_ms):
                log.info(
                    "claimed a message whose lease is over", entry=entry, deliveries=delivery.count
                )
                yield delivery
        while self._retries and self._retries[0][0] <= time.monotonic():
            _, key, entry = heapq.heappop(self._retries)
            claimed = self._claim(key, entry, 0)
            if not claimed:  # another replica has it, or it was deleted
                self._status.failing.pop(entry, None)
            yield from claimed
        while self._held and self._held_until <= time.monotonic():
            key, entry, count = self._held.popleft()
            yield from self._claim(key, entry, 0, count)

    def recover(self) -> None:
        """Schedule now what was delivered to this consumer over a connection that broke.

        Not all of it at once: what breaks the connection again would count as one more delivery of
        the messages behind it, too.
        """
        for key in self._consumer.keys:
            entries = unacknowledged(self._connections.call, self._consumer, key)
            for number, entry in enumerate(entries):  # in this order
                heapq.heappush(self._retries, (number * 1e-9, key, entry.decode()))

    def clear(self) -> None:
        """Forget the scheduled retries; `recover` finds them after a reconnect."""
        self._retries.clear()
        self._held.clear()

    def _claim(
        self, key: bytes, entry: str, lease_ms: int, count: int | None = None
    ) -> list[Delivery]:
        command = self._consumer.claim_command(key, entry, lease_ms, count)
        claimed = self._connections.call(command)
        found = deliveries([[key, claimed]], self._consumer.by_key)
        for delivery in found:
            delivery.count = self._count(delivery)
        return found

    def _count(self, delivery: Delivery) -> int:
        pending = self._connections.call(self._consumer.pending_command(delivery))
        return int(pending[0][3]) if pending else 1


def give_back(connection: Connection, consumer: GroupConsumer, lease_s: float) -> None:
    """End the leases of all that a stopping consumer has not acknowledged.

    When its heartbeat is deleted, too, other replicas claim the messages with their next heartbeat.
    The delivery counts, since they may have been tried; `hand_over` is for those that were not.
    """
    for key in consumer.keys:
        entries = unacknowledged(connection.call, consumer, key)
        if entries:
            connection.call(consumer.release_command(key, entries, round(lease_s * 1000)))


def hand_over(
    connection: Connection, consumer: GroupConsumer, received: deque[Delivery], lease_s: float
) -> None:
    """Let any replica claim what this one has received and not begun.

    It belongs to a consumer without a heartbeat until one of them does so. It was not tried, so
    this delivery does not count.
    """
    owner = f"{consumer.group}~{HANDED_OVER}"
    while received:
        try:
            delivery = received.pop()
        except IndexError:  # the loop took it meanwhile
            return
        reply = connection.call(consumer.return_command(delivery, round(lease_s * 1000), owner))
        if isinstance(reply, ReplyError):
            raise reply


def unacknowledged(
    call: Callable[[Command], Any], consumer: GroupConsumer, key: bytes
) -> list[bytes]:
    """Return the entries of a stream that this consumer has not acknowledged, the oldest first."""
    found: list[bytes] = []
    page = call(consumer.unacknowledged_command(key))
    while isinstance(page, list) and page:
        found += [entry[0] for entry in page]
        page = call(consumer.unacknowledged_command(key, found[-1]))
    return found
