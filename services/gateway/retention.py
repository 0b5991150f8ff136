"""Retention: messages wait for clients up to a number and an age; others become dead letters."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis
import structlog

from roomgrad import scripts
from roomgrad.codec import MAX_TEXT_BYTES
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.runtime import dead_letters
from roomgrad.runtime.consumers import Delivery as Given

from . import codec
from .client import Client
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Read, Replaced, Store
from .subscriptions import StreamKey, Subscription

log = structlog.get_logger("roomgrad")

SWEEP_S = 1.0
TRIM_EVERY = 5  # sweeps
WAKE_EVERY = 5  # sweeps after which all subscriptions read, in case a notification was lost
BATCH = 50  # dead letters of one commit
MIB = 1024 * 1024


class Retention:
    """Check all subscriptions once a second."""

    def __init__(self, settings: GatewaySettings, names: Names, store: Store, rooms: Rooms) -> None:
        self._settings = settings
        self._names = names
        self._store = store
        self._rooms = rooms
        self._trim = scripts.load("trim")
        self._untrimmed: set[StreamKey] = set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        count = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            count += 1
            try:
                await self._sweep(wake=count % WAKE_EVERY == 0)
                if count % TRIM_EVERY == 0:
                    await self._trim_streams()
            except (redis.ResponseError, Replaced) as error:
                log.warning("the retention of messages was not checked", reason=str(error))
            except Exception as error:
                log.error("the retention of messages goes on after an error", exc_info=error)

    async def _sweep(self, wake: bool) -> None:
        waiting = await self._waiting()
        if not self._rooms.subscriptions:
            return
        now = await self._store.now_ms() if waiting or wake else None
        for subscription in list(self._rooms.subscriptions):
            if subscription.connections and wake:
                subscription.read_soon(self._rooms.streams(subscription))
            if now is not None:
                await self._check(subscription, waiting.get(subscription, {}), now)

    async def _waiting(self) -> dict[Subscription, dict[StreamKey, int]]:
        """Return how many messages wait for each subscription whose clients take none."""
        changed, self._rooms.changed = self._rooms.changed, set()
        self._untrimmed |= changed
        waiting: dict[Subscription, dict[StreamKey, int]] = defaultdict(dict)
        for key in changed:
            groups = await self._store.groups(key)
            for subscription in self._rooms.subscriptions_in(key[0]):
                lag = int(groups.get(subscription.group, {}).get("lag") or 0)
                if not lag:
                    continue
                self._rooms.changed.add(key)
                if any(not each.is_full for each in subscription.in_room(key[0])):
                    subscription.read_soon([key])  # perhaps only messages of its own clients
                else:
                    waiting[subscription][key] = lag
        return waiting

    async def _check(
        self, subscription: Subscription, waiting: dict[StreamKey, int], now: int
    ) -> None:
        settings, name = self._settings, subscription.name
        oldest_ms = now - round(settings.wait_s * 1000)
        subscription.give_up_before(oldest_ms)
        gone = subscription.left_ms is not None and subscription.left_ms < oldest_ms
        if gone or subscription.dead_letters > settings.wait_count:
            await self._end(subscription, waiting, gone)
            return
        over = sum(waiting.values()) - settings.wait_count
        for key, lag in sorted(waiting.items(), key=lambda each: -each[1]):
            if over > 0:
                count = min(lag, over)
                over -= count
                reason = f"more than {settings.wait_count} messages wait for {name} (--wait-count)"
                await self._dead_letter_oldest(subscription, key, count, reason)
            reason = f"it waited for {name} longer than {settings.wait_s:g} s (--wait-s)"
            count = await self._count_older(subscription, key, oldest_ms)
            await self._dead_letter_oldest(subscription, key, count, reason)

    async def _end(
        self, subscription: Subscription, waiting: dict[StreamKey, int], gone: bool
    ) -> None:
        """End the subscription of a client that stays away, or takes no messages."""
        reason = f"{subscription.name} is away for more than {self._settings.wait_s:g} s (--wait-s)"
        if not gone:
            reason = f"{subscription.name} takes nothing, and too much waits for it (--wait-count)"
        for connection in list(subscription.connections):
            connection.end(reason)
        if subscription.connections:
            return  # until they have disconnected
        for key, lag in waiting.items():
            await self._dead_letter_oldest(subscription, key, lag, reason)
        log.warning("the subscription of a client ends", client=subscription.name, reason=reason)
        async with self._rooms.lock:
            if subscription.is_vacant and subscription in self._rooms.subscriptions:
                await self._rooms.end(subscription)

    async def _count_older(self, subscription: Subscription, key: StreamKey, before_ms: int) -> int:
        """Return how many messages have waited since before then, up to a hundred."""
        group = (await self._store.groups(key)).get(subscription.group)
        if group is None:
            return 0
        name, after = self._names.stream(*key), b"(" + group["last-delivered-id"]
        if int(group["last-delivered-id"].partition(b"-")[0]) >= before_ms:
            return 0

        async def attempt(client: Client) -> Any:
            return await client.xrange(name, after, f"{before_ms}", count=100)

        return len(await self._store.redis.do(attempt))

    # dead letters

    async def _dead_letter_oldest(
        self, subscription: Subscription, key: StreamKey, count: int, reason: str
    ) -> None:
        while count > 0:
            reads = await self._store.read(subscription.group, [key], min(count, BATCH))
            if not reads:
                return
            count -= len(reads)
            await self._dead_letter(subscription, reads, reason)

    async def dead_letter(self, subscription: Subscription, read: Read, reason: str) -> None:
        """Make a dead letter of an entry that cannot be sent to a client."""
        await self._dead_letter(subscription, [read], reason)

    async def _dead_letter(
        self, subscription: Subscription, reads: Sequence[Read], reason: str
    ) -> None:
        commit = self._store.guarded_commit()
        system, info = self._rooms.system, self._names.run_info()
        known = await self._store.redis.do(lambda client: client.hkeys(info))
        for key, entry, fields in reads:
            name, group = self._names.stream(*key), subscription.group
            commit.acknowledge(name, group, entry.encode())
            stream = codec.stream_of(system, *key)
            flat = [part for pair in fields.items() for part in pair]
            # The root is given up only if the contract names this client as a consumer: a client
            # that only listens must not end the work of others.
            serves = system is not None and subscription.name in stream.consumers
            dead_letters.dead_letter(
                commit,
                self._names,
                Given(stream, entry, flat),
                dead_letters.Verdict(reason, group, self._store.me, self._store.clock.time()),
                members=registry.members(system, known) if serves and system else (),
                whole=sum(map(len, flat)) <= dead_letters.SMALL_LETTER_BYTES
                or await self._has_space(),
            )
        subscription.dead_letters += len(reads)
        log.warning("dead letters", client=subscription.name, count=len(reads), reason=reason)
        await self._store.commit(commit)

    async def _has_space(self) -> bool:
        """Whether large dead letters are stored in full."""
        name = self._names.dead()
        used = await self._store.redis.do(lambda client: client.memory_usage(name, samples=5))
        return (used or 0) + MAX_TEXT_BYTES <= self._settings.dead_mib * MIB

    # history

    async def _trim_streams(self) -> None:
        """Trim the streams of all rooms; components trim those of a contract, too."""
        keys, self._untrimmed = self._untrimmed, set()
        limits = [self._settings.history_entries, round(self._settings.history_mib * MIB)]
        for key in keys:
            consumers = codec.stream_of(self._rooms.system, *key).consumers
            names = [self._names.stream(*key), self._names.run_info()]
            names += [self._names.done(group, *key) for group in consumers]

            async def attempt(
                client: Client,
                names: list[str] = names,
                arguments: tuple[object, ...] = (*limits, *consumers),
            ) -> None:
                if await client.exists(names[0]):
                    await client.eval(self._trim, len(names), *names, *arguments)

            await self._store.redis.do(attempt)
