"""What the gateway keeps and does in Redis. Nothing of it would be lost with the process.

The hash `{run}:gateway` says who the gateway is, and which seats there are:

holder      the incarnation that serves; each commit is guarded by it
seat:GROUP  name, number, rooms and since when, when its last client left
room:ROOM   the TYPEs of messages that were seen in a room and are in no contract
heard:KEY   the last message of a stream of the contract that a client has answered
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

from roomgrad import codec, scripts
from roomgrad.commit import SCRIPT, SCRIPT_SHA, Commit
from roomgrad.errors import MessageError, ServerError
from roomgrad.messages import Message, new_id
from roomgrad.names import ERRORS, GATEWAY, LOGGING, Names
from roomgrad.rooms import Stream
from roomgrad.runtime.dead_letters import ERRORS_KEPT
from roomgrad.runtime.work import LOGS_KEPT

from .link import Client, Link
from .seats import Key, Owed, Seat

log = structlog.get_logger("roomgrad")

REFUSED_PAUSE_S = 1.0
HOLDER_PAUSE_S = 0.1
LIMITS = {ERRORS: ERRORS_KEPT, LOGGING: LOGS_KEPT}

Fields = dict[bytes, bytes]
Read = tuple[Key, str, Fields]


class Replaced(ServerError):
    """Raised when another gateway serves the run now, or the server was emptied."""


class Store:
    """The run as the gateway sees it."""

    def __init__(self, names: Names, link: Link, me: str) -> None:
        self.names = names
        self.link = link
        self.me = me
        self.table = names.table(GATEWAY)

    # messages

    async def send(
        self,
        sends: Sequence[tuple[Message, Stream, dict[str, str]]],
        answers: Iterable[Owed] = (),
        group: str = "",
        heard: Iterable[Owed] = (),
    ) -> None:
        """Messages into their streams, and what they answer acknowledged, all at once.

        sends: each with further fields of its entry, and `client` for the ring.
        heard: how far which streams are answered by now.

        Raises SchemaError, MessageError for what can never be committed, and Replaced.
        """
        commit = Commit()
        commit.same(self.table, b"holder", self.me.encode())
        commit.once(self.names.sent(), new_id(), time.time())
        for message, stream, more in sends:
            self._stage(commit, message, stream, more)
        for key, entries in _by_key(answers).items():
            commit.do(b"XACK", self.names.stream(*key), group.encode(), *entries)
        for key, entry in heard:
            commit.do(b"HSET", self.table, self._heard(key).encode(), entry.encode())
        await self.commit(commit)

    async def take(self, message: Message, stream: Stream) -> None:
        """Puts a message that was published by hand into its stream, unless that was done."""
        keys = [self.names.taken(), self.names.stream(*stream.key)]
        token = f"{message.room} {message.type} {message.id}"
        ring = [self.link.ring, self.names.channel(message.room), codec.header(message), b""]
        arguments = [token, *ring, *codec.encode(message, stream)]

        async def attempt(client: Client) -> None:
            await client.eval(scripts.load("ingest"), len(keys), *keys, *arguments)

        try:
            await self.link.do(attempt)
        except redis.ResponseError as error:
            log.error("what was published cannot be taken", token=token, reason=str(error))

    def _stage(
        self, commit: Commit, message: Message, stream: Stream, more: dict[str, str]
    ) -> None:
        fields = codec.encode(message, stream)
        for name, value in more.items():
            fields += [name.encode(), value.encode()]
        head = codec.header(message)
        if client := more.get("client", "").partition(" ")[0]:
            head = head.removesuffix(b',"entry":"') + b',"client":"%s","entry":"' % client.encode()
        key, channel = self.names.stream(*stream.key), self.names.channel(message.room)
        commit.send(key, channel, head, fields, LIMITS.get(message.room))

    async def commit(self, commit: Commit, *, guarded: bool = True) -> None:
        """Brings a commit to the server until it stands. Raises MessageError.

        guarded: its first guard is the holder. Where that does not hold, the heartbeat finds out
        whether this gateway has been replaced, and ends it, or the server was emptied.
        """
        commit.ring = self.link.ring
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
                await asyncio.sleep(HOLDER_PAUSE_S)
            elif kind in (b"ok", b"stale"):  # stale: it stands since the last attempt
                return
            else:
                reason = rest[0].decode(errors="replace")
                if kind == b"wrong":
                    raise MessageError(f"it cannot be sent: {reason}")
                # An operator's matter: a full server, a missing permission, a wrong key.
                log.error("the server refuses, nothing was written; trying again", reason=reason)
                await asyncio.sleep(REFUSED_PAUSE_S)

    async def _reply(self, attempt: Callable[[Client], Awaitable[Any]]) -> list[Any]:
        try:
            reply: list[Any] = await self.link.do(attempt)
        except redis.ResponseError as error:
            return [b"refused", str(error).encode()]
        return reply

    async def read(self, group: str, keys: Sequence[Key], count: int) -> list[Read]:
        """What is new for a group in these streams."""
        return await self._read(group, keys, ">", count)

    async def own(self, group: str, keys: Sequence[Key]) -> list[Read]:
        """What this gateway was given for a group and has not acknowledged."""
        return await self._read(group, keys, "0", None)

    async def _read(
        self, group: str, keys: Sequence[Key], after: str, count: int | None
    ) -> list[Read]:
        if not keys:
            return []
        streams = {self.names.stream(*key): key for key in keys}
        by_name = {name.encode(): key for name, key in streams.items()}
        asked = dict.fromkeys(streams, after)

        async def attempt(client: Client) -> Any:
            return await client.xreadgroup(group, self.me, asked, count=count)

        found = await self.link.do(attempt)
        reads = [
            (by_name[name], entry.decode(), fields)
            for name, entries in found
            for entry, fields in entries
            if fields
        ]
        return sorted(reads, key=lambda read: parts(read[1]))

    async def pending(self, group: str, key: Key, most: int) -> list[str]:
        """Entries that were given out and not acknowledged, the oldest first."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> Any:
            return await client.xpending_range(name, group, "-", "+", most)

        found = await self.link.do(attempt)
        return [each["message_id"].decode() for each in found]

    async def claim(self, group: str, key: Key, entries: Sequence[str]) -> list[Read]:
        """Entries that were given out before, for this gateway to send again."""
        if not entries:
            return []
        name = self.names.stream(*key)

        async def attempt(client: Client) -> Any:
            return await client.xclaim(name, group, self.me, 0, entries)

        found = await self.link.do(attempt)
        return [(key, entry.decode(), fields) for entry, fields in found if fields]

    async def unread(self, group: str, key: Key, before: str) -> list[Read]:
        """What a group has not read yet of what came before an entry."""
        found = (await self.groups(key)).get(group)
        if found is None or not found["lag"]:
            return []
        name, after = self.names.stream(*key), b"(" + found["last-delivered-id"]
        entries = await self.link.do(lambda client: client.xrange(name, after, before))
        return [(key, entry.decode(), fields) for entry, fields in entries]

    async def acknowledge(self, group: str, owed: Iterable[Owed]) -> None:
        """These need no answer (any more)."""
        grouped = _by_key(owed)
        if not grouped:
            return

        async def attempt(client: Client) -> Any:
            async with client.pipeline(transaction=False) as pipe:
                for key, entries in grouped.items():
                    pipe.xack(self.names.stream(*key), group, *entries)
                return await pipe.execute()

        await self.link.do(attempt)

    async def fetch(self, key: Key, entry: str) -> Fields | None:
        """One entry of a stream, unless it is gone."""
        name = self.names.stream(*key)
        found = await self.link.do(lambda client: client.xrange(name, entry, entry))
        return found[0][1] if found else None

    # groups

    async def now_ms(self) -> int:
        """The server's clock, in unix ms."""
        seconds, micros = await self.link.do(lambda client: client.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def open_group(self, key: Key, group: str, after: str) -> None:
        """A group that reads what comes after an entry, or from now on (`$`)."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> None:
            try:
                await client.xgroup_create(name, group, after, mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        await self.link.do(attempt)

    async def close_group(self, key: Key, group: str) -> None:
        """Ends a group with all that waits in it."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> None:
            if await client.exists(name):
                await client.xgroup_destroy(name, group)

        await self.link.do(attempt)

    async def groups(self, key: Key) -> dict[str, dict[str, Any]]:
        """What XINFO GROUPS says of the groups of a stream, by name."""
        name = self.names.stream(*key)

        async def attempt(client: Client) -> Any:
            try:
                return await client.xinfo_groups(name)
            except redis.ResponseError as error:
                if "no such key" in str(error):
                    return []
                raise

        found = await self.link.do(attempt)
        return {each["name"].decode(errors="replace"): each for each in found}

    async def lives(self, component: str) -> bool:
        """Whether the heart of a replica of this component beats."""
        pattern = re.sub(r"([\[\]?*])", r"\\\1", self.names.alive(component)) + "~*"

        async def attempt(client: Client) -> bool:
            async for _ in client.scan_iter(match=pattern, count=1000):
                return True
            return False

        return await self.link.do(attempt)

    async def keep_heard(self, key: Key, group: str) -> None:
        """Writes down how far a group has heard a stream, before it ends."""
        if found := (await self.groups(key)).get(group):
            await self._set(self._heard(key), found["last-delivered-id"])

    def _heard(self, key: Key) -> str:
        return f"heard:{self.names.stream(*key)}"

    async def heard_until(self, key: Key) -> str:
        """The last message of a stream that was answered by a client, or given up with one."""
        field = self._heard(key)
        found = await self.link.do(lambda client: client.hget(self.table, field))
        return found.decode() if found else "0"

    # seats

    async def seats(self) -> tuple[list[Seat], dict[str, list[str]]]:
        """The seats that there are, and the TYPEs of free messages by room."""
        fields = await self.link.do(lambda client: client.hgetall(self.table))
        seats, types = [], {}
        for name, value in fields.items():
            what, _, of = name.decode(errors="replace").partition(":")
            if what == "seat":
                seats.append(Seat(**codec.unpack(value)))
            elif what == "room":
                types[of] = list(codec.unpack(value)["types"])
        return seats, types

    async def keep_seat(self, seat: Seat) -> None:
        """Writes down a seat."""
        record = {
            "name": seat.name,
            "number": seat.number,
            "rooms": seat.rooms,
            "left_ms": seat.left_ms,
        }
        await self._set(f"seat:{seat.group}", codec.pack(record))

    async def drop_seat(self, seat: Seat) -> None:
        """Forgets a seat."""
        await self.link.do(lambda client: client.hdel(self.table, f"seat:{seat.group}"))

    async def keep_types(self, room: str, types: Iterable[str]) -> None:
        """Writes down which messages there are in a room beside those of the contract."""
        await self._set(f"room:{room}", codec.pack({"types": sorted(types)}))

    async def _set(self, field: str, value: bytes) -> None:
        await self.link.do(lambda client: client.hset(self.table, field, value))


def parts(entry: str) -> tuple[int, ...]:
    """An entry id as numbers, which order as entries do."""
    return tuple(map(int, entry.split("-")))


def _by_key(owed: Iterable[Owed]) -> dict[Key, list[bytes]]:
    grouped: dict[Key, list[bytes]] = defaultdict(list)
    for key, entry in owed:
        grouped[key].append(entry.encode())
    return grouped
