"""The subscription to Redis channels: wakes up subscriptions, and feeds the live rooms."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import redis
import structlog

from roomgrad.codec import HEADER_PREFIX
from roomgrad.errors import DecodeError, MessageError
from roomgrad.names import LOGGING, Names, room_of
from roomgrad.redis.cluster import REDIRECT_ERRORS

from . import codec
from .client import LOST, RedisClient, cancellations, raise_lost_cancellation
from .codec import LIVE_ROOMS
from .rooms import Rooms
from .store import Store
from .subscriptions import StreamKey

log = structlog.get_logger("roomgrad")

MAX_LIVE_WAITING = 1000  # entries for live rooms that wait to be fetched
SILENCE_S = 5.0  # without the own heartbeat, after which the subscription is made again
RETRY_S = 0.25
MAX_CHANNELS = 20_000


class Subscriber:
    """One subscription to the channels of all rooms in which a client is."""

    def __init__(self, names: Names, redis_client: RedisClient, rooms: Rooms, store: Store) -> None:
        self._names = names
        self._redis = redis_client
        self._rooms = rooms
        self._store = store
        self._heartbeat = names.alive(store.me)
        self._channels: dict[str, str] = {}
        self._all_rooms = False
        self._pubsub: Any = None
        self._live: asyncio.Queue[tuple[StreamKey, str, str]] = asyncio.Queue(MAX_LIVE_WAITING)
        self._received_at = 0.0

    async def make_space(self, room: str) -> None:
        """Make space for the channel of one more room, by leaving channels of unused rooms.

        Raises DecodeError if all rooms are in use.
        """
        if self._names.channel(room) in self._channels or len(self._channels) < MAX_CHANNELS:
            return
        used = {room for each in self._rooms.subscriptions for room in each.rooms} | LIVE_ROOMS
        unused = [channel for channel, room in self._channels.items() if room not in used]
        for channel in unused:
            del self._channels[channel]
        if unused and (pubsub := self._pubsub) is not None:
            with contextlib.suppress(*LOST):  # `run` subscribes to the others again
                leave = pubsub.sunsubscribe if self._redis.is_sharded else pubsub.unsubscribe
                await leave(*unused)
        if len(self._channels) >= MAX_CHANNELS:
            raise DecodeError(f"ROOM {room!r}: {MAX_CHANNELS} rooms are in use, expected no more")

    async def subscribe(self, room: str) -> None:
        """Subscribe to a room; when that is done, the unread entries in it are read."""
        channel = self._names.channel(room)
        self._channels[channel] = room
        if room == LOGGING:  # gets copies of DATA messages of all rooms
            self._all_rooms = True
        if self._pubsub is not None:
            await self._subscribe([channel])

    async def _subscribe(self, channels: list[str]) -> None:
        pubsub, before = self._pubsub, cancellations()
        try:
            if self._redis.is_sharded:  # sharded channels have no patterns
                rooms = self._rooms.known() if self._all_rooms else ()
                await pubsub.ssubscribe(*channels, *map(self._names.channel, rooms))
            else:
                await pubsub.subscribe(*channels)
                if self._all_rooms and not pubsub.patterns:
                    await pubsub.psubscribe(self._names.everything())
        except LOST:
            pass  # `run` subscribes to all of them again
        raise_lost_cancellation(before)

    async def run(self) -> None:
        """Receive until cancelled, through outages."""
        while True:
            try:
                client = await self._redis.client()
                async with client.pubsub() as self._pubsub:
                    self._received_at = time.monotonic()
                    await self._subscribe([self._heartbeat, *self._channels])
                    async for message in self._pubsub.listen():
                        await self._receive(message)
            except (*LOST, *REDIRECT_ERRORS):
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                log.error("the subscriber goes on after an error", exc_info=error)
                await asyncio.sleep(RETRY_S)
            finally:
                self._pubsub = None

    async def watch(self) -> None:
        """Make a new subscription if not even this gateway's own heartbeat is received."""
        while True:
            await asyncio.sleep(SILENCE_S / 4)
            pubsub = self._pubsub
            if pubsub is not None and time.monotonic() - self._received_at > SILENCE_S:
                log.warning("the subscription receives nothing, making a new one")
                if pubsub.connection is not None:
                    await pubsub.connection.disconnect()

    async def _receive(self, message: dict[str, Any]) -> None:
        kind, channel = message["type"], message["channel"].decode(errors="replace")
        if kind == "sunsubscribe":
            raise redis.ConnectionError("the slot of the channels has moved to another server")
        room = self._channels.get(channel)
        if channel == self._heartbeat:
            self._received_at = time.monotonic()
        elif kind in ("subscribe", "ssubscribe") and room is not None:
            for each in self._rooms.subscriptions_in(room):
                each.read_soon(self._rooms.streams_of(room))
        elif kind in ("message", "smessage") and room is not None:
            await self._notified(room, message["data"])
        if kind in ("pmessage", "smessage") and message["data"].startswith(HEADER_PREFIX):
            self._log_copy(channel, message["data"])

    async def _notified(self, room: str, payload: bytes) -> None:
        if not payload.startswith(HEADER_PREFIX):
            await self._published(room, payload)
            return
        try:
            notification = codec.notification_of(payload)
            key = (room, notification.type)
            if room in LIVE_ROOMS:
                self._queue(key, notification.entry, notification.client)
                return
            await self._rooms.ensure(key)
        except MessageError as error:
            log.debug("not a notification", room=room, reason=str(error))
            return
        self._rooms.changed.add(key)
        for each in self._rooms.subscriptions_in(room):
            each.notify(key, notification.client)

    async def _published(self, room: str, payload: bytes) -> None:
        """Store a message that was published by hand in its stream, once by its ID.

        In rooms of a contract, the components do that.
        """
        if self._rooms.is_declared(room) or room in LIVE_ROOMS:
            return
        try:
            body = codec.parse(payload, codec.UTF_8)
            own = self._redis.database
            named = body.pop("DATABASE", None)
            if named not in (None, own):
                return
            stream = codec.stream_of(None, room, codec.type_of(body))
            message = codec.message_of({"TO_ROOM": room, **body}, stream)
            await self._rooms.ensure(stream.key)
            await self._store.ingest(message, stream, own if named is None else 0)
        except MessageError as error:
            log.warning("not a message", room=room, reason=str(error))

    # live rooms

    def _log_copy(self, channel: str, payload: bytes) -> None:
        if not any(self._rooms.present(LOGGING)):
            return
        with contextlib.suppress(MessageError):  # it only looks like a notification
            notification = codec.notification_of(payload)
            if notification.type.startswith("DATA/"):
                self._queue((room_of(channel), notification.type), notification.entry, "")

    def _queue(self, key: StreamKey, entry: str, sender: str) -> None:
        try:
            self._live.put_nowait((key, entry, sender))
        except asyncio.QueueFull:
            log.debug("the clients of live rooms miss a message", room=key[0], entry=entry)

    async def forward_live(self) -> None:
        """Fetch entries for live rooms, in a task of its own so that no subscription waits."""
        while True:
            key, at, sender = await self._live.get()
            try:
                fields = await self._store.fetch(key, at)
                if fields is not None:
                    self._send_live(codec.entry_of(*key, at, fields), sender)
            except MessageError:
                continue  # the subscriptions find it, too, and report it
            except Exception as error:
                log.error("a message could not be forwarded", entry=at, exc_info=error)

    def _send_live(self, entry: codec.Entry, sender: str) -> None:
        live = entry.room in LIVE_ROOMS
        room, body = (entry.room, entry.body) if live else (LOGGING, codec.log_copy(entry))
        for connection in self._rooms.present(room):
            if not live or connection.id != sender:
                connection.write_live(body)
