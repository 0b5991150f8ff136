"""How a replica reads: through its component's group or, if `everyone`, from its own position."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from roomgrad.commit import Commit
from roomgrad.errors import DecodeError
from roomgrad.guests import Guest, from_text
from roomgrad.names import Names
from roomgrad.redis.connection import Command, packed
from roomgrad.rooms import Stream

READS_REMEMBERED = 64  # block times and counts whose command is kept; retries need others
PENDING_PAGE = 1000  # entries that one XPENDING lists


@dataclass(slots=True)
class Delivery:
    """One stream entry that was delivered to this replica, `count` times by now."""

    stream: Stream
    entry: str
    fields: list[bytes]
    count: int = 1
    at_ns: int = field(default_factory=time.monotonic_ns)
    """When it arrived, by the monotonic clock."""

    def root_id(self) -> str:
        """Return ROOT_ID from the entry's own field, which exists even if `m` cannot be decoded."""
        return self._text(b"ROOT_ID")

    def message_id(self) -> str:
        """Return ID from the entry's own field."""
        return self._text(b"ID")

    def guest(self) -> Guest | None:
        """Return the guest that opened the root, or None; also if GUEST cannot be read."""
        try:
            text = self._field(b"GUEST")
            return from_text(text) if text else None
        except DecodeError:
            return None

    def _text(self, name: bytes) -> str:
        return self._field(name).decode(errors="replace")[:128]

    def _field(self, name: bytes) -> bytes:
        return dict(zip(self.fields[::2], self.fields[1::2], strict=False)).get(name, b"")


class Consumer(Protocol):
    """How a replica reads, and how its commits mark an entry as done."""

    def read_command(self, block_ms: int, count: int) -> Command: ...

    def guard(self, commit: Commit, delivery: Delivery) -> None: ...

    def mark(self, commit: Commit, delivery: Delivery) -> None: ...

    def advance(self, delivery: Delivery) -> None: ...

    def superseded(self, guard: int) -> bool: ...

    def committed(self, delivery: Delivery) -> None: ...


def deliveries(reply: Any, by_key: dict[bytes, Stream]) -> list[Delivery]:
    """Return the deliveries in the reply of XREADGROUP or XREAD, without deleted entries."""
    found = []
    for key, entries in reply or ():
        for entry, fields in entries:
            if fields:
                found.append(Delivery(by_key[key], entry.decode(), fields))
    return found


class GroupConsumer:
    """The component's consumer group: each message goes to one of its replicas."""

    def __init__(self, names: Names, group: str, consumer: str, streams: Sequence[Stream]) -> None:
        self.group = group
        self.consumer = consumer
        self.by_key = {names.stream(*stream.key).encode(): stream for stream in streams}
        self.keys = list(self.by_key)
        self._names_by_stream = {
            stream.key: (names.stream(*stream.key), names.done(group, *stream.key), group)
            for stream in streams
        }
        self._head = [b"XREADGROUP", b"GROUP", group.encode(), consumer.encode()]
        self._reads: dict[tuple[int, int], bytes] = {}

    def read_command(self, block_ms: int, count: int) -> Command:
        """Return the command that waits for new messages, so many of each stream at most.

        It is packed once and reused.
        """
        command = self._reads.get((block_ms, count))
        if command is None:
            how = [b"COUNT", b"%d" % count, b"BLOCK", b"%d" % block_ms, b"STREAMS"]
            command = packed(*self._head, *how, *self.keys, *[b">"] * len(self.keys))
            if len(self._reads) < READS_REMEMBERED:
                self._reads[block_ms, count] = command
        return command

    def pending_command(self, delivery: Delivery) -> list[bytes]:
        """Return the command that tells how often an entry was delivered."""
        entry = delivery.entry.encode()
        return [b"XPENDING", self.key_of(delivery), self.group.encode(), entry, entry, b"1"]

    def unacknowledged_command(self, key: bytes, after: bytes = b"") -> list[bytes]:
        """Return the command that lists what of a stream this consumer has not acknowledged.

        after: the last entry of the page before.
        """
        return [
            b"XPENDING", key, self.group.encode(), b"(" + after if after else b"-", b"+",
            b"%d" % PENDING_PAGE, self.consumer.encode(),
        ]  # fmt: skip

    def release_command(self, key: bytes, entries: list[bytes], lease_ms: int) -> list[bytes]:
        """Return the command that ends the leases of these entries."""
        head = [b"XCLAIM", key, self.group.encode(), self.consumer.encode(), b"0"]
        return [*head, *entries, b"IDLE", b"%d" % lease_ms, b"JUSTID"]

    def return_command(self, delivery: Delivery, lease_ms: int, owner: str) -> list[bytes]:
        """Return the command that gives another consumer an entry as if it was not delivered."""
        entry, before = delivery.entry.encode(), b"%d" % (delivery.count - 1)
        head = [b"XCLAIM", self.key_of(delivery), self.group.encode(), owner.encode(), b"0", entry]
        return [*head, b"IDLE", b"%d" % lease_ms, b"RETRYCOUNT", before, b"JUSTID"]

    def claim_command(
        self, key: bytes, entry: str, lease_ms: int, count: int | None = None
    ) -> list[bytes]:
        """Return the command that claims one entry, if its lease is over.

        count: how often it was delivered; by default the server counts one more.
        """
        head = [b"XCLAIM", key, self.group.encode(), self.consumer.encode()]
        kept = [] if count is None else [b"RETRYCOUNT", b"%d" % count]
        return [*head, b"%d" % lease_ms, entry.encode(), *kept]

    def guard(self, commit: Commit, delivery: Delivery) -> None:
        """Make a commit apply only while the group has not acknowledged the entry."""
        commit.pending(*self._names_by_stream[delivery.stream.key], delivery.entry)

    def mark(self, commit: Commit, delivery: Delivery) -> None:
        """Mark an entry as done that no handler wanted."""
        commit.mark(*self._names_by_stream[delivery.stream.key], delivery.entry)

    def advance(self, delivery: Delivery) -> None:
        """Do nothing: the server knows the group's position."""

    def superseded(self, guard: int) -> bool:
        """Return False: the guard of the group's entry says GONE, never STALE."""
        return False

    def committed(self, delivery: Delivery) -> None:
        """Do nothing: the server knows the group's position."""

    def key_of(self, delivery: Delivery) -> bytes:
        """Return the key of the stream that a delivery came from."""
        return self._names_by_stream[delivery.stream.key][0].encode()


class EveryoneConsumer:
    """A position of this replica's own: each replica reads each message, and delays no other.

    A named replica continues at its last commit; an unnamed one reads what arrives from now on.
    A position is "ENTRY N": the last entry, and how many entries had been added up to it.
    """

    def __init__(
        self, names: Names, component: str, replica: str, streams: Sequence[Stream]
    ) -> None:
        self.by_key = {names.stream(*stream.key).encode(): stream for stream in streams}
        self._names = names
        self.position_key = names.position(component, replica) if replica else ""
        self._stored: dict[bytes, bytes | None] = {}
        self._at: dict[bytes, tuple[bytes, int]] = {}

    def start(
        self, key: bytes, stored: bytes | None, newest: bytes, added: int, length: int
    ) -> int:
        """Start at the stored position, else at the end; return how many entries were missed."""
        self._stored[key] = stored
        if stored is None:
            self._at[key] = (newest, added)
            return 0
        entry, _, seen = stored.partition(b" ")
        missed = max(0, added - length - int(seen))
        self._at[key] = (entry, int(seen) + missed)
        return missed

    def read_command(self, block_ms: int, count: int) -> Command:
        """Return the command that waits for messages after the positions.

        One of each stream, since a commit requires the position that the one before it has stored.
        """
        head = [b"XREAD", b"COUNT", b"1", b"BLOCK", b"%d" % block_ms, b"STREAMS"]
        return head + list(self._at) + [entry for entry, _ in self._at.values()]

    def guard(self, commit: Commit, delivery: Delivery) -> None:
        """Make a commit apply only if this replica's stored position is unchanged, and move it."""
        self.advance(delivery)
        if self.position_key:
            key = self._key(delivery)
            commit.same(self.position_key, key, self._stored[key])
            commit.do(b"HSET", self.position_key, key, b"%s %d" % self._at[key])

    def mark(self, commit: Commit, delivery: Delivery) -> None:
        """Do nothing: the position of the next commit lies behind skipped entries."""

    def advance(self, delivery: Delivery) -> None:
        """Continue after this entry."""
        key = self._key(delivery)
        entry = delivery.entry.encode()
        before, seen = self._at[key]
        if before != entry:
            self._at[key] = (entry, seen + 1)

    def superseded(self, guard: int) -> bool:
        """Return whether another replica of this name moved the position, the first guard."""
        return bool(self.position_key) and guard == 1

    def committed(self, delivery: Delivery) -> None:
        """Remember the position that the commit has stored."""
        key = self._key(delivery)
        self._stored[key] = b"%s %d" % self._at[key]

    def _key(self, delivery: Delivery) -> bytes:
        return self._names.stream(*delivery.stream.key).encode()
