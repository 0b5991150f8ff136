"""Registration of clients: they get a subscription, join rooms, leave them, and disconnect."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import structlog

from roomgrad.errors import DecodeError, SettingsError
from roomgrad.names import Names

from . import codec
from .codec import LIVE_ROOMS
from .connection import Connection
from .delivery import Delivery
from .rooms import Rooms
from .settings import GatewaySettings
from .store import Read, Store
from .subscriber import Subscriber
from .subscriptions import Subscription, written_ms

log = structlog.get_logger("roomgrad")

MAX_SUBSCRIPTIONS = 10_000
MAX_JOINED_ROOMS = 1000  # by one subscription


class WrongToken(DecodeError):
    """Raised if a client does not show the token."""


class Registry:
    """Attach clients to subscriptions, and let them join and leave rooms."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: Store,
        rooms: Rooms,
        subscriber: Subscriber,
        delivery: Delivery,
    ) -> None:
        self._settings = settings
        self._store = store
        self._rooms = rooms
        self._subscriber = subscriber
        self._delivery = delivery
        self._token = read_token(settings.token_file)

    async def register(self, connection: Connection, body: dict[str, Any]) -> None:
        """Give a client its name and a subscription; if it has them, it keeps its rooms.

        Raises DecodeError, or WrongToken.
        """
        raw = codec.text_field(body, "NAME", codec.MAX_NAME_LENGTH + len(self._token) + 1)
        name = self._authenticated(raw, str(body.pop("TOKEN", "")))
        if not 0 < len(name) <= codec.MAX_NAME_LENGTH:
            raise DecodeError(f"NAME {name!r}: expected 1 to {codec.MAX_NAME_LENGTH} characters")
        body["NAME"] = name
        if name == connection.name:
            return
        rooms = [room for room in sorted(connection.rooms) if not room.startswith("@")]
        await self.disconnect(connection)
        async with self._rooms.lock:
            subscription = await self._subscription_for(name)
            await self._attach(connection, subscription, raw)
        log.info("client registered", client=str(connection), group=subscription.group)
        for room in (Names.inbox(name), *rooms):
            await self.join(connection, room)

    def _authenticated(self, raw: str, token: str) -> str:
        """Return the name if the token is right. Raises WrongToken."""
        if not self._token:
            return raw
        name, _, suffix = raw.rpartition(":")
        if secrets.compare_digest(token.encode(), self._token.encode()):
            return raw
        if secrets.compare_digest(suffix.encode(), self._token.encode()):
            return name
        raise WrongToken(
            "the token is missing or wrong: expected it as TOKEN of REGISTER, or behind the name, "
            "like trainer:TOKEN"
        )

    async def _subscription_for(self, name: str) -> Subscription:
        """Return the subscription for a client of this name: a vacant one, or a new one."""
        of_name = [each for each in self._rooms.subscriptions if each.name == name]
        if self._settings.share and of_name:
            return of_name[0]
        vacant = [each for each in of_name if each.is_vacant]
        for each in vacant[1:]:  # a gateway that was killed leaves several with the same messages
            await self._rooms.end(each)
        if vacant:
            return vacant[0]
        if len(self._rooms.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise DecodeError(
                f"{name!r}: {MAX_SUBSCRIPTIONS} names are registered already, expected no more"
            )
        taken = {each.number for each in of_name}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        subscription = Subscription(name, number)
        self._rooms.subscriptions.append(subscription)
        return subscription

    async def _attach(self, connection: Connection, subscription: Subscription, raw: str) -> None:
        subscription.connections.append(connection)
        if subscription.left_ms is not None or not subscription.attached_ms:
            subscription.attached_ms = await self._store.now_ms()
            subscription.left_ms, subscription.dead_letters = None, 0
            await self._store.save_subscription(subscription)
        connection.name, connection.raw_name = subscription.name, raw
        connection.subscription = subscription
        self._rooms.connections.append(connection)
        self._delivery.serve(subscription)

    async def join(self, connection: Connection, room: str) -> None:
        """Let a client join a room, where it first gets the messages that waited for it.

        Raises DecodeError if it is in too many rooms.
        """
        subscription = connection.subscription
        assert subscription is not None
        if room not in subscription.rooms and len(subscription.rooms) >= MAX_JOINED_ROOMS:
            raise DecodeError(
                f"ROOM {room!r}: {subscription.name} is in {MAX_JOINED_ROOMS} rooms, expected no "
                f"more: leave one"
            )
        await self._subscriber.make_space(room)
        if room in LIVE_ROOMS:
            connection.rooms.add(room)
            await self._subscriber.subscribe(room)
            return
        redeliver: list[Read] = []
        async with self._rooms.lock:
            if room not in subscription.rooms:
                for key in self._rooms.streams_of(room):
                    after = await self._rooms.start_after(key)
                    await self._store.create_group(key, subscription.group, after)
                subscription.rooms[room] = await self._store.now_ms()
                await self._store.save_subscription(subscription)
            elif not subscription.in_room(room):
                redeliver = await self._unanswered(subscription, room)
            await self._subscriber.subscribe(room)
            # Without an await between them: entries of rooms without a client are put aside.
            connection.rooms.add(room)
            subscription.redeliver.extend(redeliver)
        subscription.read_soon(self._rooms.streams_of(room))

    async def _unanswered(self, subscription: Subscription, room: str) -> list[Read]:
        """Return the entries of a room that earlier clients got and did not answer."""
        found: list[Read] = []
        group, limit = subscription.group, self._settings.wait_count
        for key in self._rooms.streams_of(room):
            await self._store.create_group(key, group, f"{subscription.rooms[room] - 1}")
            pending = await self._store.pending(group, key, limit)
            left = [entry for entry in pending if not subscription.holds((key, entry))]
            if self._settings.resend:
                found += await self._store.claim(group, key, left)
            else:
                await self._store.acknowledge(group, [(key, entry) for entry in left])
        return found

    async def leave_room(self, connection: Connection, room: str) -> None:
        """Let a client leave a room; after the last one, no message in it waits."""
        subscription = connection.subscription
        assert subscription is not None
        async with self._rooms.lock:
            connection.rooms.discard(room)
            if room not in subscription.rooms or subscription.in_room(room):
                return
            for key in self._rooms.streams_of(room):
                await self._store.destroy_group(key, subscription.group)
            del subscription.rooms[room]
            await self._store.save_subscription(subscription)

    async def disconnect(self, connection: Connection) -> None:
        """Detach a client; the subscription of the last one of its name is kept."""
        subscription = connection.subscription
        if subscription is None:
            return
        self._rooms.connections.remove(connection)
        async with self._rooms.lock:
            connection.subscription = None
            subscription.connections.remove(connection)
            if not subscription.is_vacant:
                await self._hand_over(subscription, connection)
            elif twins := self._twins(subscription):
                heir = max(twins, key=lambda each: each.attached_ms)
                await self._inherit(heir, subscription, connection)
                await self._rooms.end(subscription)
            else:
                await self._vacate(subscription)
        reason = connection.ended or "it closed the connection"
        log.info("client disconnected", client=str(connection), reason=reason)
        connection.name = ""
        connection.rooms.clear()

    def _twins(self, subscription: Subscription) -> list[Subscription]:
        """Return the other subscriptions of this name that have a client."""
        others = (each for each in self._rooms.subscriptions if each.name == subscription.name)
        return [each for each in others if not each.is_vacant]

    async def _vacate(self, subscription: Subscription) -> None:
        if subscription.task is not None:
            subscription.task.cancel()
        await self._store.acknowledge(subscription.group, subscription.settled)
        subscription.settled.clear()
        subscription.clear()
        subscription.left_ms = await self._store.now_ms()
        await self._store.save_subscription(subscription)

    async def _inherit(self, heir: Subscription, old: Subscription, gone: Connection) -> None:
        """Give entries from before the heir was attached, which it has not got, to the heir.

        The loss of a machine that sends no farewell is noticed late: its client may be back by
        then, with a new subscription.
        """
        if not self._settings.resend:
            return
        refs = old.unacknowledged_by(gone)
        for key in self._rooms.streams(old):
            before = [e for k, e in refs if k == key and written_ms(e) < heir.attached_ms]
            left = await self._store.claim(old.group, key, before)
            left += await self._store.unread(old.group, key, f"({heir.attached_ms}-0")
            heir.redeliver.extend(read for read in left if heir.in_room(key[0]))
        heir.wake_up.set()

    async def _hand_over(self, subscription: Subscription, gone: Connection) -> None:
        """Give what one of several clients had not answered to the others, but not what it sent."""
        subscription.shared_ms = await self._store.now_ms()
        refs = subscription.unacknowledged_by(gone)
        subscription.settle(refs)
        for key in {key for key, _ in refs}:
            entries = [entry for at, entry in refs if at == key]
            claimed = await self._store.claim(subscription.group, key, entries)
            subscription.redeliver.extend(claimed)
        subscription.wake_up.set()


def read_token(path: str) -> str:
    """Return the token in a file, or an empty text without a path. Raises SettingsError."""
    if not path:
        return ""
    try:
        token = Path(path).read_text().strip()
    except OSError as error:
        raise SettingsError(f"the token file {path} cannot be read: {error.strerror}") from error
    if len(token) < 16 or not token.isprintable() or " " in token:
        raise SettingsError(
            f"the token in {path} has {len(token)} characters: expected at least 16 letters, "
            "digits and signs"
        )
    return token
