"""What rings: which seats have something to read, and what is only heard by who is there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import redis
import structlog

from roomgrad import codec
from roomgrad.errors import DecodeError, MessageError
from roomgrad.names import LOGGING, Names, room_of
from roomgrad.redis.cluster import ELSEWHERE_ERRORS

from . import bodies
from .bodies import LIVE_ROOMS
from .link import LOST, Link, cancellations, heed
from .rooms import Rooms
from .seats import Key
from .store import Store

log = structlog.get_logger("roomgrad")

LIVE_WAITING = 1000  # messages for who only listens, of which older ones are still being fetched
DEAF_S = 5.0  # own heartbeats that ring unheard for so long: the subscription is made again
PAUSE_S = 0.25
MOST_CHANNELS = 20_000  # that are listened to at once


class Ears:
    """One subscription to the channels of all rooms in which a client is."""

    def __init__(self, names: Names, link: Link, rooms: Rooms, store: Store) -> None:
        self._names = names
        self._link = link
        self._rooms = rooms
        self._store = store
        self._own = names.alive(store.me)
        self._channels: dict[str, str] = {}
        self._everywhere = False
        self._ears: Any = None
        self._live: asyncio.Queue[tuple[Key, str, str]] = asyncio.Queue(LIVE_WAITING)
        self._heard_at = 0.0

    async def admit(self, room: str) -> None:
        """Makes sure that one more room can be listened to, if need be by leaving those in which
        nobody is any more. Raises DecodeError.
        """
        if self._names.channel(room) in self._channels or len(self._channels) < MOST_CHANNELS:
            return
        used = {room for seat in self._rooms.seats for room in seat.rooms} | LIVE_ROOMS
        left = [channel for channel, room in self._channels.items() if room not in used]
        for channel in left:
            del self._channels[channel]
        if left and self._ears is not None:
            with contextlib.suppress(*LOST):  # `run` subscribes to the others again
                ears = self._ears
                await (ears.sunsubscribe if self._link.is_sharded else ears.unsubscribe)(*left)
        if len(self._channels) >= MOST_CHANNELS:
            raise DecodeError(f"ROOM {room!r}: {MOST_CHANNELS} rooms are listened to, no more can")

    async def listen(self, room: str) -> None:
        """Hears a room from now on, and with it whatever is new there already."""
        channel = self._names.channel(room)
        self._channels[channel] = room
        if room == LOGGING:  # it hears of all DATA messages, wherever they are
            self._everywhere = True
        if self._ears is not None:
            await self._subscribe([channel])

    async def _subscribe(self, channels: list[str]) -> None:
        ears, before = self._ears, cancellations()
        try:
            if self._link.is_sharded:  # where there are no patterns
                rooms = self._rooms.known() if self._everywhere else ()
                await ears.ssubscribe(*channels, *map(self._names.channel, rooms))
            else:
                await ears.subscribe(*channels)
                if self._everywhere and not ears.patterns:
                    await ears.psubscribe(self._names.everything())
        except LOST:
            pass  # `run` subscribes to all of them again
        heed(before)

    async def run(self) -> None:
        """Listens until it is cancelled, through outages."""
        while True:
            try:
                client = await self._link.client()
                async with client.pubsub() as self._ears:
                    self._heard_at = time.monotonic()
                    await self._subscribe([self._own, *self._channels])
                    async for message in self._ears.listen():
                        await self._hear(message)
            except (*LOST, *ELSEWHERE_ERRORS):
                await asyncio.sleep(PAUSE_S)
            except Exception as error:
                log.error("listening goes on after an error", exc_info=error)
                await asyncio.sleep(PAUSE_S)
            finally:
                self._ears = None

    async def look_after(self) -> None:
        """Makes a subscription again that hears not even this gateway's own heartbeat."""
        while True:
            await asyncio.sleep(DEAF_S / 4)
            ears = self._ears
            if ears is not None and time.monotonic() - self._heard_at > DEAF_S:
                log.warning("the subscription is deaf and made again")
                if ears.connection is not None:
                    await ears.connection.disconnect()

    async def _hear(self, message: dict[str, Any]) -> None:
        kind, channel = message["type"], message["channel"].decode(errors="replace")
        if kind == "sunsubscribe":
            raise redis.ConnectionError("the slot of the channels is served elsewhere now")
        room = self._channels.get(channel)
        if channel == self._own:
            self._heard_at = time.monotonic()
        elif kind in ("subscribe", "ssubscribe") and room is not None:
            for seat in self._rooms.seats_in(room):
                seat.look(self._rooms.keys_of(room))
        elif kind in ("message", "smessage") and room is not None:
            await self._rang(room, message["data"])
        if kind in ("pmessage", "smessage") and message["data"].startswith(codec.RING_PREFIX):
            self._tap(channel, message["data"])

    async def _rang(self, room: str, payload: bytes) -> None:
        if not payload.startswith(codec.RING_PREFIX):
            await self._published(room, payload)
            return
        try:
            ring = bodies.ring_of(payload)
            key = (room, ring.type)
            if room in LIVE_ROOMS:
                self._queue(key, ring.entry, ring.client)
                return
            await self._rooms.know(key)
        except MessageError as error:
            log.debug("what rang is no ring", room=room, reason=str(error))
            return
        self._rooms.touched.add(key)
        for seat in self._rooms.seats_in(room):
            seat.rang(key, ring.client)

    async def _published(self, room: str, payload: bytes) -> None:
        """A message that somebody PUBLISHed by hand goes into its stream, once by its ID.

        In rooms of a contract its components do that.
        """
        if self._rooms.is_declared(room) or room in LIVE_ROOMS:
            return
        try:
            body = bodies.parsed(payload, bodies.UTF_8)
            stream = bodies.stream_of(None, room, bodies.type_of(body))
            message = bodies.message_of({"TO_ROOM": room, **body}, stream)
            await self._rooms.know(stream.key)
            await self._store.take(message, stream)
        except MessageError as error:
            log.warning("what was published is no message", room=room, reason=str(error))

    # who only listens

    def _tap(self, channel: str, payload: bytes) -> None:
        if not any(self._rooms.present(LOGGING)):
            return
        with contextlib.suppress(MessageError):  # it only looks like a ring
            ring = bodies.ring_of(payload)
            if ring.type.startswith("DATA/"):
                self._queue((room_of(channel), ring.type), ring.entry, "")

    def _queue(self, key: Key, entry: str, by: str) -> None:
        try:
            self._live.put_nowait((key, entry, by))
        except asyncio.QueueFull:
            log.debug("who only listens misses a message", room=key[0], entry=entry)

    async def pass_on(self) -> None:
        """Fetches what is for who is there, beside the rings, so that no seat waits for it."""
        while True:
            key, at, by = await self._live.get()
            try:
                fields = await self._store.fetch(key, at)
                if fields is not None:
                    self._tell(bodies.entry_of(*key, at, fields), by)
            except MessageError:
                continue  # the seats find it, too, and say so
            except Exception as error:
                log.error("a message could not be passed on", entry=at, exc_info=error)

    def _tell(self, entry: bodies.Entry, by: str) -> None:
        live = entry.room in LIVE_ROOMS
        room, body = (entry.room, entry.body) if live else (LOGGING, bodies.tapped(entry))
        for connection in self._rooms.present(room):
            if not live or connection.id != by:
                connection.write_live(body)
