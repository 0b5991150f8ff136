"""A consistent snapshot of a run: all of its keys at one moment.

The entries of streams, which are most of the data, are prefetched. One transaction then reads
everything else, so that the server is held for milliseconds. Its replies also show whether keys or
groups were created, or entries deleted in the middle of a stream, since the prefetch; if so, the
transaction is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from roomgrad.errors import ServerError, format_value
from roomgrad.names import Names
from roomgrad.ops.backup.archive import line
from roomgrad.ops.backup.prefetch import PrefetchedEntries
from roomgrad.ops.backup.records import (
    KINDS,
    GroupState,
    KeyHeader,
    StreamState,
    encoded,
    is_left_out,
)

TRIES = 50
ALL_PENDING = 10**9
_GONE = ("no such key", "NOGROUP")
AFTER_ALL = f"{2**64 - 1}-{2**64 - 1}"  # the first ID to keep of an empty stream


def raw_replies(client: redis.Redis) -> redis.Redis:
    """Return a client of the same connections that returns replies as the server sends them.

    redis-py makes dicts of some replies, which lose a name that occurs twice.
    """
    found = redis.Redis(connection_pool=client.connection_pool)
    found.response_callbacks.clear()
    return found


@dataclass(frozen=True)
class KeySnapshot:
    """One key: the server's reply, and of a stream the prefetched entries from `first` on."""

    header: KeyHeader
    reply: list[Any]
    entries: PrefetchedEntries | None = None
    first: str = AFTER_ALL

    def lines(self) -> Iterator[bytes]:
        """Yield its items as the archive stores them."""
        if self.entries is not None:
            yield from self.entries.lines(self.first)
            yield from map(line, self.reply)
        elif self.header.kind == "string":
            yield line([encoded(self.reply[0])])
        else:
            flat = iter(self.reply)
            for name, value in zip(flat, flat, strict=True):
                yield line([encoded(name), encoded(value)])


@dataclass(frozen=True)
class Snapshot:
    """All keys of a run at one moment."""

    at_ms: int
    seconds: float  # duration of the transaction, with the transfer of its replies
    keys: list[KeySnapshot]


@dataclass
class _KnownKey:
    kind: str
    entries: PrefetchedEntries | None = None
    groups: set[bytes] = field(default_factory=set)


class Snapshotter:
    """Take a snapshot of one run.

    folder: where prefetched entries are stored. stack: deletes them when it is closed.
    """

    def __init__(self, client: redis.Redis, names: Names, folder: Path, stack: ExitStack) -> None:
        self._client = raw_replies(client)
        self._prefix, self._pattern = names.prefix().encode(), names.everything()
        self._folder, self._stack = folder, stack
        self._known: dict[bytes, _KnownKey] = {}
        self._changed = False  # whether the last transaction found something unknown

    def take(self) -> Snapshot:
        """Return a snapshot. Raises ServerError if the run changes its keys at each of 50 tries."""
        keys: Any = self._client.keys(self._pattern)
        self._learn(keys)
        self._prefetch()  # takes long, so that much is added meanwhile
        for _ in range(TRIES):
            self._prefetch()
            if (found := self._try()) is not None:
                return found
        raise ServerError(
            f"no consistent snapshot in {TRIES} tries: keys are created, or entries deleted, all "
            f"the time; try again"
        )

    def _prefetch(self) -> None:
        for known in self._known.values():
            if known.entries is not None:
                known.entries.catch_up(self._client)

    def _learn(self, keys: Iterable[bytes]) -> bool:
        """Add new keys to the known ones, and return whether there were any."""
        kept = (key for key in keys if not is_left_out(key.removeprefix(self._prefix)))
        new = [key for key in kept if key not in self._known]
        with self._client.pipeline(transaction=False) as pipe:
            for key in new:
                pipe.type(key)
            kinds: list[bytes] = pipe.execute()
        for key, kind in zip(new, (each.decode() for each in kinds), strict=True):
            if kind == "none":
                continue
            if kind not in KINDS:
                raise ServerError(
                    f"the key {format_value(key.decode(errors='replace'))} is a {kind}, which no "
                    f"run has: delete or rename it, and try again"
                )
            known = self._known[key] = _KnownKey(kind)
            if kind == "stream":
                known.entries = PrefetchedEntries(key, self._folder)
                self._stack.callback(known.entries.close)
        return bool(new)

    def _try(self) -> Snapshot | None:
        """Return a snapshot, or None if the replies show something that was not known before."""
        began = time.monotonic()
        asked = dict(self._known)
        with self._client.pipeline(transaction=True) as pipe:
            pipe.keys(self._pattern)
            pipe.time()
            for key, known in asked.items():
                _ask(pipe, key, known)
            replies = iter(pipe.execute(raise_on_error=False))
        seconds = time.monotonic() - began
        keys, (second, microsecond) = _checked(next(replies)), _checked(next(replies))
        at_ms = int(second) * 1000 + int(microsecond) // 1000
        self._changed = self._learn(keys)
        found = [self._key(key, known, replies, at_ms) for key, known in asked.items()]
        return None if self._changed else Snapshot(at_ms, seconds, [each for each in found if each])

    def _key(
        self, key: bytes, known: _KnownKey, replies: Iterator[Any], at_ms: int
    ) -> KeySnapshot | None:
        """Return one key, or None if it does not exist any more."""
        name, expires = key.removeprefix(self._prefix), int(_checked(next(replies)))
        expires_ms = expires if expires > 0 else None
        if known.entries is not None:
            return self._stream(key, known, expires_ms, replies, at_ms)
        reply = self._existing(key, next(replies))
        if reply is None or reply == []:
            return None
        if known.kind == "string":
            return KeySnapshot(KeyHeader(name, known.kind, 1, expires_ms), [reply])
        return KeySnapshot(KeyHeader(name, known.kind, len(reply) // 2, expires_ms), reply)

    def _stream(
        self,
        key: bytes,
        known: _KnownKey,
        expires_ms: int | None,
        replies: Iterator[Any],
        at_ms: int,
    ) -> KeySnapshot | None:
        about, infos, tail = (self._existing(key, next(replies)) for _ in range(3))
        pending = {group: self._existing(key, next(replies)) or [] for group in known.groups}
        if about is None or known.entries is None:
            return None
        stream, groups = _pairs(about), [_pairs(each) for each in infos or []]
        known.entries.add(tail or [])
        first = stream["first-entry"][0].decode() if stream["first-entry"] else AFTER_ALL
        names: set[bytes] = {each["name"] for each in groups}
        if not names <= pending.keys():
            known.groups = names
            self._changed = True
        elif known.entries.count(first) != int(stream["length"]):
            known.entries.clear()  # entries were deleted in the middle
            self._changed = True
        if self._changed:
            return None
        items = [
            [entry.decode(), encoded(consumer), max(0, at_ms - int(idle)), int(times)]
            for each in groups
            for entry, consumer, idle, times in pending[each["name"]]
        ]
        state = StreamState(
            stream["last-generated-id"].decode(),
            int(stream["entries-added"]),
            stream["max-deleted-entry-id"].decode(),
            tuple(_group(each, len(pending[each["name"]])) for each in groups),
        )
        name, count = key.removeprefix(self._prefix), int(stream["length"]) + len(items)
        header = KeyHeader(name, "stream", count, expires_ms, state)
        return KeySnapshot(header, items, known.entries, first)

    def _existing(self, key: bytes, reply: Any) -> Any:
        """Return the reply, or None if the key is gone or has become one of another type."""
        if isinstance(reply, redis.ResponseError):
            if str(reply).startswith("WRONGTYPE"):
                self._known.pop(key, None)
                self._changed = True
            elif not any(word in str(reply) for word in _GONE):
                raise reply
            return None
        return reply


def _ask(pipe: Any, key: bytes, known: _KnownKey) -> None:
    pipe.pexpiretime(key)
    if known.kind == "hash":
        pipe.hgetall(key)
    elif known.kind == "zset":
        pipe.zrange(key, 0, -1, withscores=True)
    elif known.kind == "string":
        pipe.get(key)
    elif known.entries is not None:
        pipe.xinfo_stream(key)
        pipe.xinfo_groups(key)
        pipe.xrange(key, f"({known.entries.newest}")
        for group in known.groups:
            pipe.xpending_range(key, group, "-", "+", ALL_PENDING)


def _group(about: dict[str, Any], pending: int) -> GroupState:
    read = about["entries-read"]
    last = about["last-delivered-id"].decode()
    return GroupState(about["name"], last, None if read is None else int(read), pending)


def _pairs(flat: list[Any]) -> dict[str, Any]:
    names = iter(flat)
    return {name.decode(): value for name, value in zip(names, names, strict=True)}


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
