"""Delivery from streams to clients: one task per subscription, so that none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import redis
import structlog

from roomgrad.errors import MessageError

from . import codec
from .codec import Entry
from .connection import Connection
from .retention import Retention
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Read, Store
from .subscriptions import Subscription

log = structlog.get_logger("roomgrad")

READ_COUNT = 16  # entries of a stream per read
RETRY_S = 0.5  # after an unexpected error


class Delivery:
    """Read new entries of a subscription as fast as its clients take them, and no faster."""

    def __init__(
        self, settings: GatewaySettings, store: Store, rooms: Rooms, retention: Retention
    ) -> None:
        self._settings = settings
        self._store = store
        self._rooms = rooms
        self._retention = retention

    def serve(self, subscription: Subscription) -> None:
        """Start the task of a subscription, unless it is running."""
        if subscription.task is None or subscription.task.done():
            subscription.losses = self._store.redis.losses
            subscription.task = asyncio.create_task(
                self._run(subscription), name=subscription.group
            )

    async def _run(self, subscription: Subscription) -> None:
        group = subscription.group
        while True:
            try:
                await subscription.wake_up.wait()
                subscription.wake_up.clear()
                while reads := await self._next(subscription):
                    for read in reads:
                        await self._deliver(subscription, read)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    log.error("a subscription cannot be read", group=group, reason=str(error))
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                log.error("a subscription goes on after an error", group=group, exc_info=error)
                await asyncio.sleep(RETRY_S)

    async def _next(self, subscription: Subscription) -> Sequence[Read]:
        if subscription.losses != self._store.redis.losses:
            subscription.losses = self._store.redis.losses
            await self._find_lost(subscription)
        if subscription.redeliver:
            again = list(subscription.redeliver)
            subscription.redeliver.clear()
            return again
        keys = subscription.take_unread()
        settled, subscription.settled = subscription.settled, []
        await self._store.acknowledge(subscription.group, settled)
        found = await self._store.read(subscription.group, keys, READ_COUNT)
        for key in keys:
            if sum(at == key for at, _, _ in found) >= READ_COUNT:
                subscription.unread.add(key)
        if subscription.losses == self._store.redis.losses:
            return found
        # The lost reply may have held earlier entries; those found are pending, too, and sorted in.
        return await self._next(subscription)

    async def _find_lost(self, subscription: Subscription) -> None:
        """Find entries whose reply was lost together with the connection to the server."""
        keys = [key for key in self._rooms.streams(subscription) if subscription.in_room(key[0])]
        for read in await self._store.delivered(subscription.group, keys):
            if not subscription.holds(read[:2]):
                subscription.redeliver.append(read)
        subscription.unread.update(keys)

    async def _deliver(self, subscription: Subscription, read: Read) -> None:
        key, at, fields = read
        try:
            entry = codec.entry_of(*key, at, fields)
        except MessageError as error:
            await self._retention.dead_letter(subscription, read, str(error))
            return
        others = entry.only_for not in ("", subscription.group)
        if others or subscription.is_own(entry) or self._came_by_room(subscription, entry):
            subscription.settled.append((key, at))
            return
        to = await self._receiver(subscription, key[0])
        if to is None:
            return  # it stays pending until a client is in that room again
        if to.write(entry.body):
            subscription.sent(key, entry, to, self._settings.resend)
        else:
            reason = "it cannot be written for this client"
            await self._retention.dead_letter(subscription, read, reason)

    def _came_by_room(self, subscription: Subscription, entry: Entry) -> bool:
        """Whether a direct message was also sent to a room in which the client is."""
        room = entry.body.get("TO_ROOM")
        return (
            entry.room.startswith("@")
            and isinstance(room, str)
            and bool(subscription.in_room(room))
        )

    async def _receiver(self, subscription: Subscription, room: str) -> Connection | None:
        """Return the client with the fewest unanswered messages, once one takes messages."""
        while present := [each for each in subscription.in_room(room) if not each.ended]:
            ready = [each for each in present if not each.is_full]
            if ready:
                return min(ready, key=subscription.load) if len(ready) > 1 else ready[0]
            waits = [asyncio.create_task(each.drained()) for each in present]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return None
