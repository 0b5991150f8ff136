"""Open roots that nothing continues, because a message of them was deleted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import redis

from roomgrad.inspect import entries, guests
from roomgrad.inspect.entries import MessageHeader, PendingEntry, StoredMessages
from roomgrad.inspect.keys import StreamKey
from roomgrad.inspect.scripts import ReadScript
from roomgrad.names import Names

HEAD_BYTES = 1024  # of a record: its ROOT_ID comes first
ROOT_ID = re.compile(rb'\{"ROOT_ID":("(?:[^"\\]|\\.)*")')

Roots = dict[str, set[str]]
"""The components whose memory holds a root, by ROOT_ID."""


@dataclass(frozen=True)
class LostRoot:
    """A root that components remember, and of which no message waits, is pending, or delayed."""

    root_id: str
    remembered_by: tuple[str, ...]
    newest: MessageHeader | None
    """Its newest message that is still stored."""


@dataclass(frozen=True)
class LostEntry:
    """A pending entry whose message was deleted, so that it is never delivered again."""

    stream_key: StreamKey
    group: str
    entry: str
    held: PendingEntry

    @property
    def place(self) -> tuple[StreamKey, str, str]:
        """What identifies it."""
        return self.stream_key, self.group, self.entry


@dataclass(frozen=True)
class Lost:
    """What was lost in a run."""

    roots: tuple[LostRoot, ...] = ()
    entries: tuple[LostEntry, ...] = ()


def find(client: redis.Redis, names: Names, components: Collection[str], patience_s: float) -> Lost:
    """Return what has been lost for some seconds.

    The run goes on while it is read, so what seems lost is read a second time.
    """
    first = _look(client, names, components, patience_s)
    if first == Lost():
        return first
    again = _look(client, names, components, patience_s)
    roots = {each.root_id for each in first.roots}
    pending = {each.place for each in first.entries}
    return Lost(
        tuple(each for each in again.roots if each.root_id in roots),
        tuple(each for each in again.entries if each.place in pending),
    )


def _look(client: redis.Redis, names: Names, components: Iterable[str], patience_s: float) -> Lost:
    before = remembered(client, names, components)
    bodies: list[Any] = [client.hvals(names.later_bodies(each)) for each in components]
    delayed = b"".join(body for found in bodies for body in found)
    stored = entries.read(client, names)
    after = remembered(client, names, components) if before else {}
    since_us = stored.now_us - round(patience_s * 1_000_000)
    newest = {each.root_id: each for each in sorted(stored.messages, key=lambda e: e.at_us)}
    alive = under_way(stored) | set(guests.open_roots(client, names))
    roots = [
        LostRoot(root, tuple(sorted(by)), newest.get(root))
        for root, by in after.items()
        if root in before
        and root not in alive
        and root.encode() not in delayed
        and (root not in newest or newest[root].at_us < since_us)
    ]
    return Lost(tuple(roots), tuple(_deleted(stored, since_us)))


def under_way(stored: StoredMessages) -> set[str]:
    """Return the roots of which a message waits for a component, or is pending."""
    return {
        each.root_id
        for each in stored.messages
        for reader in stored.readers.get(each.stream_key, ())
        if not reader.of_client and (reader.has_to_read(each.entry) or each.entry in reader.held)
    }


def _deleted(stored: StoredMessages, since_us: int) -> Iterable[LostEntry]:
    existing: Mapping[StreamKey, set[str]] = defaultdict(set)
    for message in stored.messages:
        existing[message.stream_key].add(message.entry)
    for key, readers in stored.readers.items():
        for reader in readers:
            for entry, held in reader.held.items():
                if entry not in existing[key] and held.since_us < since_us:
                    yield LostEntry(key, reader.name, entry, held)


def remembered(client: redis.Redis, names: Names, components: Iterable[str]) -> Roots:
    """Return the roots in the memory of components, without reading their arrays."""
    script = ReadScript(client, "memory_heads")
    found: Roots = defaultdict(set)
    for component in components:
        for field, head in _heads(script, names.memory(component)):
            found[_root_of(field, head)].add(component)
    return found


def _heads(script: ReadScript, key: str) -> Iterable[tuple[bytes, bytes]]:
    cursor: Any = b"0"
    while True:
        cursor, flat = script(keys=[key], args=[cursor, HEAD_BYTES])
        yield from zip(flat[::2], flat[1::2], strict=True)
        if cursor == b"0":
            return


def _root_of(field: bytes, head: bytes) -> str:
    """Return the ROOT_ID of a record; its field if the record of another program has none."""
    found = ROOT_ID.match(head)
    return str(orjson.loads(found[1])) if found else field.decode(errors="replace")
