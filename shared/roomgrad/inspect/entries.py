"""What the streams of a run hold: each message without its arrays, and how far its readers are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
import redis

from roomgrad.commit import TIMES_FIELD
from roomgrad.inspect.keys import scanned
from roomgrad.inspect.scripts import ReadScript
from roomgrad.inspect.streams import place
from roomgrad.names import GATEWAY, Names, is_client_group
from roomgrad.runtime.handling_times import Times

PAGE = 200  # entries of one call
HEAD_BYTES = 1024  # of `m`: the envelope comes first, unless a stranger wrote it
HELD = 10_000  # entries of a group that are delivered and not committed
FIELDS = ("ID", "ROOT_ID", "m", "client", TIMES_FIELD.decode())
NEAR_US = 5000  # so far a sender's clock may lie behind the server's to be believed

Place = tuple[str, str]
EntryId = tuple[int, int]


@dataclass(frozen=True)
class Sent:
    """A message as it stands in its stream."""

    place: Place
    """Its room and TYPE."""

    entry: str
    id: str
    root_id: str
    sent_by: str
    client: str = ""
    """The connection to the gateway from which it came."""

    times: Times | None = None
    size: int = 0
    """Bytes of all its fields."""

    @property
    def order(self) -> EntryId:
        return entry_id(self.entry)

    @property
    def exact(self) -> bool:
        """Whether its sender's clock, which has microseconds, agrees with the server's."""
        return self.times is not None and -NEAR_US <= self.times.sent_at - self._server_us < 1000

    @property
    def at_us(self) -> int:
        """When it was sent, in us of Unix time."""
        return self.times.sent_at if self.times and self.exact else self._server_us

    @property
    def _server_us(self) -> int:
        return self.order[0] * 1000


@dataclass(frozen=True)
class Held:
    """An entry that was delivered and not committed."""

    consumer: str
    since_us: int
    deliveries: int


@dataclass(frozen=True)
class Reader:
    """A group on a stream at one moment."""

    name: str
    read: EntryId
    """The last entry that was delivered."""

    held: dict[str, Held]

    @property
    def component(self) -> str:
        """Whose group it is; of a gateway's, the client that stands in."""
        return self.name.partition(f"@{GATEWAY}")[0]

    @property
    def of_client(self) -> bool:
        """Whether it is the gateway's: what waits there keeps no root open."""
        return is_client_group(self.name)

    def has_to_read(self, entry: str) -> bool:
        return entry_id(entry) > self.read


@dataclass(frozen=True)
class Streams:
    """All messages of a run that are still there, and who reads them."""

    messages: tuple[Sent, ...]
    readers: dict[Place, tuple[Reader, ...]]
    now_us: int
    """Unix time of the server at the look."""

    def reads(self, component: str, place: Place) -> bool:
        """Whether a component has a group on a stream."""
        return any(reader.component == component for reader in self.readers.get(place, ()))

    @cached_property
    def by_entry(self) -> dict[str, list[Sent]]:
        """Streams of their own may have given the same entry id."""
        return _grouped((each.entry, each) for each in self.messages)

    @cached_property
    def by_answered(self) -> dict[str, list[Sent]]:
        """By the entry id of what they answer, where they say it."""
        return _grouped((each.times.answers, each) for each in self.messages if each.times)

    @property
    def since_us(self) -> int:
        """From when on every stream that somebody reads still has all of its messages."""
        oldest: dict[Place, int] = {}
        for each in self.messages:
            if self.readers.get(each.place) and not each.place[0].startswith("@"):
                oldest[each.place] = min(oldest.get(each.place, each.at_us), each.at_us)
        return max(oldest.values(), default=self.now_us)


def _grouped(pairs: Iterable[tuple[str, Sent]]) -> dict[str, list[Sent]]:
    found: dict[str, list[Sent]] = {}
    for name, each in pairs:
        found.setdefault(name, []).append(each)
    return found


def entry_id(entry: str) -> EntryId:
    """An entry id as numbers that can be compared."""
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def look(client: redis.Redis, names: Names) -> Streams:
    """Reads the groups, and then the messages: what came in between has a reader to wait for."""
    keys = [
        key
        for key in scanned(client, names.everything(), "stream")
        if key != names.dead() and not key.endswith(":log")
    ]
    places = {key: place(names, key) for key in keys}
    seconds, micros = client.time()
    now_us = int(seconds) * 1_000_000 + int(micros)
    readers = {places[key]: _readers(client, key, now_us) for key in keys}
    read = ReadScript(client, "headers")
    found = [sent for key in keys for sent in messages(read, key, places[key])]
    return Streams(tuple(found), readers, now_us)


def _readers(client: redis.Redis, key: str, now_us: int) -> tuple[Reader, ...]:
    if not client.exists(key):
        return ()
    found = []
    groups: list[Any] = list(client.xinfo_groups(key))
    for group in groups:
        name = group["name"]
        pending: Any = client.xpending_range(key, name, "-", "+", HELD)
        held = {
            each["message_id"].decode(): Held(
                each["consumer"].decode(errors="replace"),
                now_us - int(each["time_since_delivered"]) * 1000,
                int(each["times_delivered"]),
            )
            for each in pending
        }
        read = entry_id(group["last-delivered-id"].decode())
        found.append(Reader(name.decode(errors="replace"), read, held))
    return tuple(found)


def messages(read: ReadScript, key: str, at: Place, start: str = "-") -> list[Sent]:
    """The messages of a stream from an entry on, or after one: `(1795184559856-0`."""
    found: list[Sent] = []
    while page := read(keys=[key], args=[start, PAGE, HEAD_BYTES, *FIELDS]):
        found += [_sent(at, entry.decode(), fields, size) for entry, fields, size in page]
        start = f"({page[-1][0].decode()}"
    return found


def _sent(at: Place, entry: str, fields: Sequence[bytes], size: int) -> Sent:
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    head = pairs.get(b"m", b"")
    body = _body(head)
    return Sent(
        at,
        entry,
        id=_text(body, head, "ID") or _own(pairs, b"ID"),
        root_id=_text(body, head, "ROOT_ID") or _own(pairs, b"ROOT_ID"),
        sent_by=_text(body, head, "SENT_BY"),
        client=_own(pairs, b"client"),
        times=Times.read(pairs.get(TIMES_FIELD, b"")),
        size=size,
    )


def _body(head: bytes) -> dict[str, Any]:
    """`m`, where it is short enough to have come whole."""
    try:
        body = orjson.loads(head)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _text(body: dict[str, Any], head: bytes, name: str) -> str:
    value = body.get(name)
    if value is None and not body:
        found = re.search(rb'"%b":\s*"([^"\\]*)"' % name.encode(), head)
        value = found[1].decode(errors="replace") if found else None
    return value[:128] if isinstance(value, str) else ""


def _own(pairs: dict[bytes, bytes], name: bytes) -> str:
    return pairs.get(name, b"").decode(errors="replace")[:128]
