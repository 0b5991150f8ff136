"""Holds back what opens new work while others are far behind. A reply never waits."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from roomgrad.names import is_client_group
from roomgrad.redis.client import BACKLOG_LIMIT

from .rooms import Rooms
from .seats import Key
from .store import Store

log = structlog.get_logger("roomgrad")

LOOK_EVERY = 100  # messages into a stream, between two looks at who is behind
AGAIN_S = 0.25


class Backlog:
    """How far the receivers of each stream are behind."""

    def __init__(self, store: Store, rooms: Rooms) -> None:
        self._store = store
        self._rooms = rooms
        self._unserved: set[str] = set()
        self._sent: dict[Key, int] = defaultdict(int)
        self._behind: dict[Key, int] = defaultdict(int)

    def count(self, key: Key) -> None:
        """A message went into this stream."""
        self._sent[key] += 1

    async def wait(self, key: Key) -> None:
        """Returns when a message that opens a root may go into this stream."""
        told = False
        while self._sent[key] >= LOOK_EVERY or self._behind[key] >= BACKLOG_LIMIT - LOOK_EVERY:
            who, self._behind[key] = await self._furthest(key)
            self._sent[key] = 0
            if self._behind[key] < BACKLOG_LIMIT:
                return
            if not told:
                told = True
                log.warning(
                    "new work is held back: start more of it, or forget it for good",
                    behind=who,
                    messages=self._behind[key],
                    room=key[0],
                    type=key[1],
                    command=f"roomgrad forget {who} --run {self._store.names.run}",
                )
            await asyncio.sleep(AGAIN_S)

    async def _furthest(self, key: Key) -> tuple[str, int]:
        """Who is furthest behind: of components what they owe, of clients what they have not got.

        Who does not live holds nobody up, as a client may stand in for it.
        """
        here = {seat.group for seat in self._rooms.seats_in(key[0]) if not seat.vacant}
        found = [("nobody", 0)]
        for name, group in (await self._store.groups(key)).items():
            lag = int(group["lag"] or 0)
            if name in here:
                found.append((name, lag))
            elif not is_client_group(name):
                found.append((name, lag + int(group["pending"])))
        found.sort(key=lambda each: -each[1])
        for name, behind in found:
            if behind < BACKLOG_LIMIT or name in here or await self._store.lives(name):
                return name, behind
            self._tell_unserved(name, behind)
        return "nobody", 0

    def _tell_unserved(self, name: str, behind: int) -> None:
        if name not in self._unserved:
            self._unserved.add(name)
            log.warning(
                "messages pile up for a component that does not run: start it, or forget it if a "
                "client stands in for it",
                component=name,
                messages=behind,
                command=f"roomgrad forget {name} --run {self._store.names.run}",
            )
