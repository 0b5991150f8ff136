"""The gateway's state and messages in Redis; none of it is lost with the process.

The hash `{run}:gateway` stores the leader and the subscriptions:

holder      the gateway that serves; each commit is guarded by this field
seat:GROUP  a subscription: name, number, rooms and when they were joined, when its last client left
room:ROOM   the TYPEs of a room that are not in a contract
heard:KEY   the last entry of a stream of the contract that a client has answered
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import redis
import structlog

from roomgrad import scripts
from roomgrad.clock import ServerClock
from roomgrad.codec import encode, header, pack, unpack
from roomgrad.commit import SCRIPT, SCRIPT_SHA, Commit
from roomgrad.errors import MessageError, ServerError
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, GATEWAY, LOGGING, Names
from roomgrad.redis import roots
from roomgrad.rooms import Stream
from roomgrad.runtime.dead_letters import ERRORS_KEPT
from roomgrad.runtime.work import LOGS_KEPT

from .client import Client, RedisClient
from .subscriptions import EntryRef, StreamKey, Subscription

log = structlog.get_logger("roomgrad")

_OWN_GUARDS = 2  # of the leader and the token; all behind them are of guests

REFUSED_RETRY_S = 1.0
LEASE_RETRY_S = 0.1
LIMITS = {ERRORS: ERRORS_KEPT, LOGGING: LOGS_KEPT}

Fields = dict[bytes, bytes]
Read = tuple[StreamKey, str, Fields]


class Replaced(ServerError):
    """Raised when another gateway serves the run now."""


class Store:
    """The run as the gateway reads and writes it. me: the name of this gateway's process."""

    def __init__(self, names: Names, redis_client: RedisClient, me: str) -> None:
        self.names = names
        self.redis = redis_client
        self.me = me
        self.clock = ServerClock()
        self.table = names.table(GATEWAY)
        self.members: Sequence[str] = ()  # the components of the contract

    # messages

    async def send(
        self,
        sends: Sequence[tuple[Message, Stream, dict[str, str]]],
        answered: Sequence[EntryRef] = (),
        group: str = "",
        newest_answered: Sequence[EntryRef] = (),
    ) -> None:
        """Add messages to their streams and acknowledge what they answer, in one commit.

        sends: messages, each with additional fields of its entry. newest_answered: the position to
        store for each stream.

        Raises SchemaError or MessageError for a message that can never be committed.
        """
        if await self._send(sends, answered, group, newest_answered) > _OWN_GUARDS:
            await self._send(sends, answered, group, newest_answered, guest_left=True)

    async def _send(
        self,
        sends: Sequence[tuple[Message, Stream, dict[str, str]]],
        answered: Sequence[EntryRef],
        group: str,
        newest_answered: Sequence[EntryRef],
        *,
        guest_left: bool = False,
    ) -> int:
        """Do it, and return the guard that did not hold; 0 if all did.

        guest_left: the guest does not wait for the root any more: a message for it ends the root.
        """
        commit = self.guarded_commit()
        commit.once(self.names.sent(), new_id(), self.clock.time())
        for message, stream, more in sends:
            guest = message.guest
            if guest is None or not guest.receives(message.room, message.type):
                self._stage(commit, message, stream, more)
            elif guest_left:
                roots.end_of_guest(commit, self.names, self.members, GATEWAY, message.root_id)
            else:
                roots.require_open(commit, self.names, guest, message)
                self._stage(commit, message, stream, more, self.names.guest(guest.name))
        for key, entries in _by_stream(answered).items():
            commit.acknowledge(self.names.stream(*key), group, *entries)
        for key, entry in newest_answered:
            commit.do(b"HSET", self.table, self._answered_field(key).encode(), entry.encode())
        return await self.commit(commit)

    async def ingest(self, message: Message, stream: Stream, database: int) -> None:
        """Add a message that was published by hand to its stream, once by its ID.

        database: of this run; 0 if the message names it.
        """
        keys = [self.names.taken(), self.names.stream(*stream.key), self.names.run_info()]
        token = f"{message.room} {message.type} {message.id}"
        channel = self.names.channel(message.room)
        notification = [self.redis.publish, channel, header(message), b""]
        arguments = [token, *notification, database, *encode(message, stream)]

        async def attempt(client: Client) -> None:
            await client.eval(scripts.load("ingest"), len(keys), *keys, *arguments)

        try:
            await self.redis.do(attempt, patient=False)
        except redis.ResponseError as error:
            log.error("a published message cannot be stored", token=token, reason=str(error))

    def _stage(
        self, commit: Commit, message: Message, stream: Stream, more: dict[str, str], key: str = ""
    ) -> None:
        """Stage a message, for the stream of its room or another `key`."""
        fields = encode(message, stream)
        for name, value in more.items():
            fields += [name.encode(), value.encode()]
        head = header(message)
        if client := more.get("client", "").partition(" ")[0]:
            head = head.removesuffix(b',"entry":"') + b',"client":"%s","entry":"' % client.encode()
        channel = self.names.channel(message.room)
        key = key or self.names.stream(*stream.key)
        commit.send(key, channel, head, fields, LIMITS.get(message.room))

    def guarded_commit(self) -> Commit:
        """Return a commit that is applied only while this gateway is the leader."""
        commit = Commit()
        commit.same(self.table, b"holder", self.me.encode())
        return commit

    async def commit(self, commit: Commit, *, guarded: bool = True) -> int:
        """Send a commit until the server has applied it; return the guard that did not hold, or 0.

        Raises MessageError if it can never be applied.

        guarded: its first guard is the leader. If that guard fails, wait: the heartbeat finds out
        whether this gateway was replaced, and ends it, or whether the server was emptied.
        """
        commit.publish_command = self.redis.publish
        keys, arguments = commit.parts()

        async def attempt(client: Client) -> Any:
            try:
                return await client.evalsha(SCRIPT_SHA, len(keys), *keys, *arguments)
            except redis.exceptions.NoScriptError:
                await client.script_load(SCRIPT)
                return await client.evalsha(SCRIPT_SHA, len(keys), *keys, *arguments)

        while True:
            kind, *rest = await self._reply(attempt)
            if kind == b"stale" and guarded and rest[0] == 1:
                await asyncio.sleep(LEASE_RETRY_S)
            elif kind == b"ok":
                return 0
            elif kind == b"stale":  # an earlier attempt was applied, or a guest is gone
                return int(rest[0])
            else:
                reason = rest[0].decode(errors="replace")
                if kind == b"wrong":
                    raise MessageError(f"it cannot be sent: {reason}")
                # The operator has to act: the server is full, or a permission or key is wrong.
                log.error("the server refuses, nothing was written; trying again", reason=reason)
                await asyncio.sleep(REFUSED_RETRY_S)

    async def _reply(self, attempt: Callable[[Client], Awaitable[Any]]) -> list[Any]:
        try:
            reply: list[Any] = await self.redis.do(attempt)
        except redis.ResponseError as error:
            return [b"refused", str(error).encode()]
        return reply

    async def read(self, group: str, keys: Sequence[StreamKey], count: int) -> list[Read]:
        """Return new entries for a group in these streams."""
        return await self._read(group, keys, ">", count)

    async def delivered(self, group: str, keys: Sequence[StreamKey]) -> list[Read]:
        """Return the entries that this gateway has read for a group and not acknowledged."""
        return await self._read(group, keys, "0", None)

    async def _read(
        self, group: str, keys: Sequence[StreamKey], after: str, count: int | None
    ) -> list[Read]:
        if not keys:
            return []
        by_name = {self.names.stream(*key).encode(): key for key in keys}
        streams = dict.fromkeys(by_name, after)

        async def attempt(client: Client) -> Any:
            return await client.xreadgroup(group, self.me, streams, count=count)

        found = await self.redis.do(attempt)
        reads = [
            (by_name[name], entry.decode(), fields)
            for name, entries in found
            for entry, fields in entries
            if fields
        ]
        return sorted(reads, key=lambda read: parts(read[1]))

    async def pending(self, group: str, key: StreamKey, count: int) -> list[str]:
        """Return up to `count` pending entries, the oldest first."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> Any:
            return await client.xpending_range(name, group, "-", "+", count)

        found = await self.redis.do(attempt)
        return [each["message_id"].decode() for each in found]

    async def claim(self, group: str, key: StreamKey, entries: Sequence[str]) -> list[Read]:
        """Claim pending entries for this gateway, which sends them again."""
        if not entries:
            return []
        name = self.names.stream(*key)

        async def attempt(client: Client) -> Any:
            return await client.xclaim(name, group, self.me, 0, entries)

        found = await self.redis.do(attempt)
        return [(key, entry.decode(), fields) for entry, fields in found if fields]

    async def unread(self, group: str, key: StreamKey, before: str) -> list[Read]:
        """Return the entries before an ID that a group has not read yet."""
        found = (await self.groups(key)).get(group)
        if found is None or not found["lag"]:
            return []
        name, after = self.names.stream(*key), b"(" + found["last-delivered-id"]
        entries = await self.redis.do(lambda client: client.xrange(name, after, before))
        return [(key, entry.decode(), fields) for entry, fields in entries]

    async def acknowledge(self, group: str, refs: Iterable[EntryRef]) -> None:
        """Acknowledge entries that need no answer (any more)."""
        grouped = _by_stream(refs)
        if not grouped:
            return

        async def attempt(client: Client) -> Any:
            async with client.pipeline(transaction=False) as pipe:
                for key, entries in grouped.items():
                    pipe.xack(self.names.stream(*key), group, *entries)
                return await pipe.execute()

        await self.redis.do(attempt)

    async def fetch(self, key: StreamKey, entry: str) -> Fields | None:
        """Return one entry of a stream, or None if it was trimmed."""
        name = self.names.stream(*key)
        found = await self.redis.do(lambda client: client.xrange(name, entry, entry))
        return found[0][1] if found else None

    # groups

    async def now_ms(self) -> int:
        """Return the server's time in Unix ms."""
        sent_ns = time.monotonic_ns()
        reply = await self.redis.do(lambda client: client.time())
        self.clock.adjust(reply, sent_ns)
        return int(reply[0]) * 1000 + int(reply[1]) // 1000

    async def create_group(self, key: StreamKey, group: str, after: str) -> None:
        """Create a group that reads after an entry, or from now on (`$`), unless it exists."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> None:
            try:
                await client.xgroup_create(name, group, after, mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        await self.redis.do(attempt)

    async def destroy_group(self, key: StreamKey, group: str) -> None:
        """Destroy a group and its pending entries."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> None:
            if await client.exists(name):
                await client.xgroup_destroy(name, group)

        await self.redis.do(attempt)

    async def groups(self, key: StreamKey) -> dict[str, dict[str, Any]]:
        """Return the reply of XINFO GROUPS, by name of the group."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> Any:
            try:
                return await client.xinfo_groups(name)
            except redis.ResponseError as error:
                if "no such key" in str(error):
                    return []
                raise

        found = await self.redis.do(attempt)
        return {each["name"].decode(errors="replace"): each for each in found}

    async def is_alive(self, component: str) -> bool:
        """Return whether a replica of this component has a heartbeat."""
        pattern = re.sub(r"([\[\]?*])", r"\\\1", self.names.alive(component)) + "~*"

        async def attempt(client: Client) -> bool:
            async for _ in client.scan_iter(match=pattern, count=1000):
                return True
            return False

        return await self.redis.do(attempt)

    # the gateway's hash

    async def save_answered(self, key: StreamKey, group: str) -> None:
        """Store how far a group has read a stream, before it is destroyed."""
        if found := (await self.groups(key)).get(group):
            await self._set(self._answered_field(key), found["last-delivered-id"])

    def _answered_field(self, key: StreamKey) -> str:
        return f"heard:{self.names.stream(*key)}"

    async def answered_until(self, key: StreamKey) -> str:
        """Return the last entry of a stream that a client answered or that was given up."""
        field = self._answered_field(key)
        found = await self.redis.do(lambda client: client.hget(self.table, field))
        return found.decode() if found else "0"

    async def subscriptions(self) -> tuple[list[Subscription], dict[str, list[str]]]:
        """Return the stored subscriptions, and the TYPEs outside the contract by room."""
        fields = await self.redis.do(lambda client: client.hgetall(self.table))
        subscriptions, types = [], {}
        for name, value in fields.items():
            kind, _, of = name.decode(errors="replace").partition(":")
            if kind == "seat":
                subscriptions.append(Subscription(**unpack(value)))
            elif kind == "room":
                types[of] = list(unpack(value)["types"])
        return subscriptions, types

    async def save_subscription(self, subscription: Subscription) -> None:
        """Store a subscription."""
        names = ("name", "number", "rooms", "left_ms")
        record = {name: getattr(subscription, name) for name in names}
        await self._set(f"seat:{subscription.group}", pack(record))

    async def delete_subscription(self, subscription: Subscription) -> None:
        """Delete a stored subscription."""
        field = f"seat:{subscription.group}"
        await self.redis.do(lambda client: client.hdel(self.table, field))

    async def save_types(self, room: str, types: Iterable[str]) -> None:
        """Store the TYPEs of a room that are not in the contract."""
        await self._set(f"room:{room}", pack({"types": sorted(types)}))

    async def _set(self, field: str, value: bytes) -> None:
        commit = Commit()
        commit.do(b"HDEL", self.table, field.encode())  # after a deletion a script may write, also
        commit.do(b"HSET", self.table, field.encode(), value)  # while memory is full
        await self.commit(commit, guarded=False)


def parts(entry: str) -> tuple[int, ...]:
    """Return the numbers of an entry ID, which sort in the order of entries."""
    return tuple(map(int, entry.split("-")))


def _by_stream(refs: Iterable[EntryRef]) -> dict[StreamKey, list[bytes]]:
    grouped: dict[StreamKey, list[bytes]] = defaultdict(list)
    for key, entry in refs:
        grouped[key].append(entry.encode())
    return grouped
