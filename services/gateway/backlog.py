"""Hold back messages that open a root while consumers are far behind. Replies never wait."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from roomgrad.names import is_client_group
from roomgrad.redis.client import BACKLOG_LIMIT

from .rooms import Rooms
from .store import Store
from .subscriptions import StreamKey

log = structlog.get_logger("roomgrad")

CHECK_EVERY = 100  # messages into a stream, between two checks of its backlog
RETRY_S = 0.25


class Backlog:
    """How far the consumers of each stream are behind."""

    def __init__(self, store: Store, rooms: Rooms) -> None:
        self._store = store
        self._rooms = rooms
        self._unserved: set[str] = set()
        self._sent: dict[StreamKey, int] = defaultdict(int)
        self._behind: dict[StreamKey, int] = defaultdict(int)

    def count(self, key: StreamKey) -> None:
        """Count a message that was sent into a stream."""
        self._sent[key] += 1

    async def wait(self, key: StreamKey) -> None:
        """Return when a message that opens a root may be sent into a stream."""
        logged = False
        while self._sent[key] >= CHECK_EVERY or self._behind[key] >= BACKLOG_LIMIT - CHECK_EVERY:
            slowest, self._behind[key] = await self._slowest(key)
            self._sent[key] = 0
            if self._behind[key] < BACKLOG_LIMIT:
                return
            if not logged:
                logged = True
                log.warning(
                    "new work is held back: start more replicas, or forget the component",
                    behind=slowest,
                    messages=self._behind[key],
                    room=key[0],
                    type=key[1],
                    command=f"roomgrad forget {slowest} --run {self._store.names.run}",
                )
            await asyncio.sleep(RETRY_S)

    async def _slowest(self, key: StreamKey) -> tuple[str, int]:
        """Return the group that is furthest behind, and by how many messages.

        For components, count unread and pending messages; for clients, unread ones. Ignore
        components that do not run, because a client may take their place.
        """
        present = {
            each.group for each in self._rooms.subscriptions_in(key[0]) if not each.is_vacant
        }
        found = []
        for name, group in (await self._store.groups(key)).items():
            lag = int(group["lag"] or 0)
            if name in present:
                found.append((name, lag))
            elif not is_client_group(name):
                found.append((name, lag + int(group["pending"])))
        for name, behind in sorted(found, key=lambda each: -each[1]):
            if behind < BACKLOG_LIMIT or name in present or await self._store.is_alive(name):
                return name, behind
            self._warn_unserved(name, behind)
        return "", 0

    def _warn_unserved(self, name: str, behind: int) -> None:
        if name not in self._unserved:
            self._unserved.add(name)
            log.warning(
                "messages pile up for a component that does not run: start it, or forget it if a "
                "client takes its place",
                component=name,
                messages=behind,
                command=f"roomgrad forget {name} --run {self._store.names.run}",
            )
