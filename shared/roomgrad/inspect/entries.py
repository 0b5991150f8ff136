"""The entries in the streams of a run: headers without arrays, and how far each group has read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import redis

from roomgrad.commit import TIMES_FIELD
from roomgrad.inspect import snapshot
from roomgrad.inspect.keys import (
    EntryId,
    StreamKey,
    entry_id,
    holds_messages,
    parse_stream_key,
    scan_keys,
)
from roomgrad.inspect.scripts import ReadScript
from roomgrad.inspect.snapshot import ConsumerGroup
from roomgrad.names import GATEWAY, Names, is_client_group
from roomgrad.runtime.handling_times import Times

PAGE = 200  # entries of one call
HEAD_BYTES = 1024  # of `m`: the envelope comes first, unless a foreign program wrote it
MOST_PENDING = 10_000  # entries of a group
FIELDS = ("ID", "ROOT_ID", "m", "client", TIMES_FIELD.decode())
NEAR_US = 5000  # a sender's clock is believed if it is at most so far behind the server's


@dataclass(frozen=True)
class MessageHeader:
    """A message in its stream, without its fields."""

    stream_key: StreamKey
    entry: str
    id: str
    root_id: str
    sent_by: str
    to: str = ""
    """The component that it is for; any reader if empty."""

    client: str = ""
    """The connection of the gateway from which it came."""

    times: Times | None = None
    size: int = 0
    """Bytes of all its fields."""

    @property
    def order(self) -> EntryId:
        """Its entry ID, which can be compared."""
        return entry_id(self.entry)

    @property
    def exact(self) -> bool:
        """Whether its sender's clock, which has microseconds, agrees with the server's."""
        return self.times is not None and -NEAR_US <= self.times.sent_at - self._server_us < 1000

    @property
    def at_us(self) -> int:
        """When it was sent, in microseconds of Unix time."""
        return self.times.sent_at if self.times and self.exact else self._server_us

    @property
    def _server_us(self) -> int:
        return self.order[0] * 1000


@dataclass(frozen=True)
class PendingEntry:
    """An entry that was delivered and is not committed."""

    consumer: str
    since_us: int
    deliveries: int


@dataclass(frozen=True)
class Reader:
    """A group that reads a stream, and its pending entries."""

    name: str
    read: EntryId
    """The newest entry that was delivered."""

    held: dict[str, PendingEntry]

    @property
    def component(self) -> str:
        """The component that reads; for a group of the gateway, its client."""
        return self.name.partition(f"@{GATEWAY}")[0]

    @property
    def of_client(self) -> bool:
        """Whether it is a group of the gateway. What waits there keeps no root open."""
        return is_client_group(self.name)

    def has_to_read(self, entry: str) -> bool:
        """Return whether an entry was not delivered yet."""
        return entry_id(entry) > self.read


@dataclass(frozen=True)
class StoredMessages:
    """All messages that the streams of a run hold, and the groups that read them."""

    messages: tuple[MessageHeader, ...]
    readers: dict[StreamKey, tuple[Reader, ...]]
    now_us: int
    """Unix time of the server, in microseconds."""

    def reads(self, component: str, key: StreamKey) -> bool:
        """Return whether a component has a group on a stream."""
        return any(reader.component == component for reader in self.readers.get(key, ()))

    @cached_property
    def by_entry(self) -> dict[str, list[MessageHeader]]:
        """By entry ID, which two streams may have given at the same time."""
        return _grouped((each.entry, each) for each in self.messages)

    @cached_property
    def by_answered(self) -> dict[str, list[MessageHeader]]:
        """By the entry ID of what they answer, if they tell it."""
        return _grouped((each.times.answers, each) for each in self.messages if each.times)

    @property
    def since_us(self) -> int:
        """The time since which every stream with readers still has all of its messages."""
        oldest: dict[StreamKey, int] = {}
        for each in self.messages:
            key = each.stream_key
            if self.readers.get(key) and not key[0].startswith("@"):
                oldest[key] = min(oldest.get(key, each.at_us), each.at_us)
        return max(oldest.values(), default=self.now_us)


def _grouped(pairs: Iterable[tuple[str, MessageHeader]]) -> dict[str, list[MessageHeader]]:
    found: dict[str, list[MessageHeader]] = {}
    for name, each in pairs:
        found.setdefault(name, []).append(each)
    return found


def read(client: redis.Redis, names: Names) -> StoredMessages:
    """Read the groups, then the messages: so each message has the readers it waits for."""
    keys = [
        key for key in scan_keys(client, names.everything(), "stream") if holds_messages(names, key)
    ]
    now = snapshot.take(client, names, keys, ())
    readers = {
        stream.stream_key: tuple(_reader(client, group) for group in stream.groups)
        for stream in now.streams
    }
    script = ReadScript(client, "headers")
    found = [each for k in keys for each in read_headers(script, k, parse_stream_key(names, k))]
    return StoredMessages(tuple(found), readers, now.now_us)


def _reader(client: redis.Redis, group: ConsumerGroup) -> Reader:
    held = _pending(client, group) if group.pending else {}
    return Reader(group.name, entry_id(group.last_delivered), held)


def _pending(client: redis.Redis, group: ConsumerGroup) -> dict[str, PendingEntry]:
    """Read the pending entries and the time in one transaction: the server tells how long ago."""
    with client.pipeline(transaction=True) as pipeline:
        pipeline.time()
        pipeline.xpending_range(group.key, group.name, "-", "+", MOST_PENDING)
        (seconds, microseconds), entries = pipeline.execute()
    now_us = seconds * 1_000_000 + microseconds
    return {
        each["message_id"].decode(): PendingEntry(
            each["consumer"].decode(errors="replace"),
            now_us - int(each["time_since_delivered"]) * 1000,
            int(each["times_delivered"]),
        )
        for each in entries
    }


def read_headers(
    script: ReadScript, key: str, stream_key: StreamKey, start: str = "-"
) -> list[MessageHeader]:
    """Return the headers of a stream from an entry on, or after one: `(1795184559856-0`."""
    found: list[MessageHeader] = []
    while page := script(keys=[key], args=[start, PAGE, HEAD_BYTES, *FIELDS]):
        found += [_header(stream_key, entry.decode(), fields, size) for entry, fields, size in page]
        start = f"({page[-1][0].decode()}"
    return found


def newest_headers(
    script: ReadScript, key: str, stream_key: StreamKey, count: int
) -> list[MessageHeader]:
    """Return the headers of the newest messages of a stream."""
    page = script(keys=[key], args=["+", count, HEAD_BYTES, *FIELDS])
    return [_header(stream_key, entry.decode(), fields, size) for entry, fields, size in page]


def _header(stream_key: StreamKey, entry: str, fields: Sequence[bytes], size: int) -> MessageHeader:
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    head = pairs.get(b"m", b"")
    body = _body(head)
    return MessageHeader(
        stream_key,
        entry,
        id=_from_body(body, head, "ID") or _text(pairs, b"ID"),
        root_id=_from_body(body, head, "ROOT_ID") or _text(pairs, b"ROOT_ID"),
        sent_by=_from_body(body, head, "SENT_BY"),
        to=_from_body(body, head, "TO"),
        client=_text(pairs, b"client"),
        times=Times.read(pairs.get(TIMES_FIELD, b"")),
        size=size,
    )


def _body(head: bytes) -> dict[str, Any]:
    """Return `m` parsed; empty if it was cut off."""
    try:
        body = orjson.loads(head)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _from_body(body: dict[str, Any], head: bytes, name: str) -> str:
    value = body.get(name)
    if value is None and not body:
        found = re.search(rb'"%b":\s*"([^"\\]*)"' % name.encode(), head)
        value = found[1].decode(errors="replace") if found else None
    return value[:128] if isinstance(value, str) else ""


def _text(pairs: dict[bytes, bytes], name: bytes) -> str:
    return pairs.get(name, b"").decode(errors="replace")[:128]
