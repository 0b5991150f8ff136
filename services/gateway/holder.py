"""One gateway for a run: its heartbeat, and another one that stands by until it is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog

from roomgrad.commit import Commit
from roomgrad.names import GATEWAY, Names
from roomgrad.settings import RuntimeSettings

from .link import Client, Link
from .store import Replaced, Store

log = structlog.get_logger("roomgrad")

STAND_BY_S = 0.25


class Holder:
    """Holds the run for this gateway, while its heart beats."""

    def __init__(self, settings: RuntimeSettings, names: Names, store: Store, link: Link) -> None:
        self._settings = settings
        self._names = names
        self._store = store
        self._link = link
        self._began = time.time()

    async def take(self) -> None:
        """Waits until no other gateway serves this run, and takes it over."""
        told = False
        while not await self._taken():
            if not told:
                told = True
                log.info("another gateway serves this run; standing by", run=self._names.run)
            await asyncio.sleep(STAND_BY_S)

    async def _taken(self) -> bool:
        table, mine = self._store.table, self._store.me.encode()
        holder = await self._link.do(lambda client: client.hget(table, "holder"))
        if holder == mine:
            return True
        if holder is not None:
            alive = self._names.alive(holder.decode())
            if await self._link.do(lambda client: client.exists(alive)):
                return False
        commit = Commit()
        commit.same(table, b"holder", holder)
        commit.do(b"HSET", table, b"holder", mine)
        await self._store.commit(commit, guarded=False)
        await self._heartbeat()
        return bool(await self._link.do(lambda client: client.hget(table, "holder")) == mine)

    async def keep(self, begin_again: Callable[[], Awaitable[None]]) -> None:
        """Beats until it is cancelled. Raises Replaced once another gateway serves the run.

        begin_again: called when the server was emptied.
        """
        while True:
            await self._heartbeat()
            holder = await self._link.do(lambda client: client.hget(self._store.table, "holder"))
            if holder is None:
                await begin_again()
            elif holder != self._store.me.encode():
                raise Replaced(f"{holder.decode()} serves this run now")
            await asyncio.sleep(self._settings.heartbeat_interval_s)

    async def _heartbeat(self) -> None:
        now = time.time()
        beat = {"component": GATEWAY, "replica": "", "host": socket.gethostname()}
        more = {"pid": os.getpid(), "started": self._began, "turn": now, "handling": None}
        value = orjson.dumps({**beat, **more, "version": ""})
        lives_ms = round(self._settings.heartbeat_lives_s * 1000)
        name = self._names.alive(self._store.me)

        async def attempt(client: Client) -> Any:
            async with client.pipeline(transaction=False) as pipe:
                pipe.set(name, value, px=lives_ms)
                pipe.execute_command(self._link.ring.decode(), name, self._store.me)
                return await pipe.execute()

        await self._link.do(attempt)

    async def give_up(self) -> None:
        """Lets the next gateway serve at once."""
        table, name = self._store.table, self._names.alive(self._store.me)

        async def attempt(client: Client) -> None:
            if await client.hget(table, "holder") == self._store.me.encode():
                await client.hdel(table, "holder")
            await client.delete(name)

        await self._link.do(attempt)
