"""The leader lease: one gateway serves a run, and another one waits for its lease to expire."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog

from roomgrad import scripts
from roomgrad.commit import Commit
from roomgrad.names import GATEWAY, Names
from roomgrad.settings import RuntimeSettings

from .client import Client
from .store import Replaced, Store

log = structlog.get_logger("roomgrad")

RETRY_S = 0.25


class LeaderLease:
    """The right of this gateway to serve the run, while its heartbeat is renewed.

    The field `holder` of the gateway's hash names the leader; its heartbeat is its lease.
    """

    def __init__(self, settings: RuntimeSettings, names: Names, store: Store) -> None:
        self._settings = settings
        self._names = names
        self._store = store
        self._redis = store.redis
        self._started = time.monotonic()
        self.answered: float | None = None  # when the server last told who leads

    async def acquire(self) -> None:
        """Wait until no other gateway serves this run, and become the leader."""
        logged = False
        while not await self._try():
            if not logged:
                logged = True
                log.info("another gateway serves this run; standing by", run=self._names.run)
            await asyncio.sleep(RETRY_S)

    async def _holder(self) -> bytes | None:
        table = self._store.table
        found: bytes | None = await self._redis.do(lambda client: client.hget(table, "holder"))
        self.answered = time.monotonic()
        return found

    async def _try(self) -> bool:
        table, me = self._store.table, self._store.me.encode()
        holder = await self._holder()
        if holder == me:
            return True
        if holder is not None:
            heartbeat = self._names.alive(holder.decode())
            if await self._redis.do(lambda client: client.exists(heartbeat)):
                return False
        commit = Commit()
        commit.same(table, b"holder", holder)
        commit.do(b"HDEL", table, b"holder")  # after a deletion a script may write, also while
        commit.do(b"HSET", table, b"holder", me)  # memory is full
        await self._store.commit(commit, guarded=False)
        await self._heartbeat()
        return await self._holder() == me

    async def keep(self, start_over: Callable[[], Awaitable[None]]) -> None:
        """Renew the heartbeat until cancelled. Raises Replaced if another gateway leads.

        start_over: called if the server was emptied.
        """
        while True:
            await self._heartbeat()
            holder = await self._holder()
            if holder is None:
                await start_over()
            elif holder != self._store.me.encode():
                raise Replaced(f"{holder.decode()} serves this run now")
            await asyncio.sleep(self._settings.heartbeat_interval_s)

    async def _heartbeat(self) -> None:
        now = await self._store.now_ms() / 1000
        value = orjson.dumps(
            {
                "component": GATEWAY,
                "replica": "",
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "started": now - (time.monotonic() - self._started),
                "turn": now,
                "handling": None,
                "version": "",
            }
        )
        names, me = self._names, self._store.me
        keys = (names.alive(me), names.run_info(), names.later(GATEWAY), names.memory(GATEWAY))
        lifetime_ms = round(self._settings.heartbeat_lives_s * 1000)
        # no group, no lease of messages, no consumers to delete or search
        arguments = (value, lifetime_ms, "", 0, me, names.alive(""), 0, 0, self._redis.publish)

        async def attempt(client: Client) -> Any:
            return await client.eval(scripts.load("heartbeat"), len(keys), *keys, *arguments)

        await self._redis.do(attempt)

    async def release(self) -> None:
        """Let the next gateway serve at once."""
        table, name = self._store.table, self._names.alive(self._store.me)

        async def attempt(client: Client) -> None:
            if await client.hget(table, "holder") == self._store.me.encode():
                await client.hdel(table, "holder")
            await client.delete(name)

        await self._redis.do(attempt)
