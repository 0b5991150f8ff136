"""Where a replica's messages come from: its component's group, or, for `everyone`, a position."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from roomgrad.commit import Commit
from roomgrad.names import Names
from roomgrad.redis.connection import Command, packed
from roomgrad.rooms import Stream

READ_COUNT = b"1"
READS_REMEMBERED = 8  # block times that are used again; retries ask for others


@dataclass(slots=True)
class Delivery:
    """One stream entry in the hands of this replica. `count`: how often it was delivered."""

    stream: Stream
    entry: str
    fields: list[bytes]
    count: int = 1
    at_ns: int = field(default_factory=time.time_ns)
    """When it came."""

    def root_id(self) -> str:
        """ROOT_ID as the entry's own field says it, for letters that cannot be decoded."""
        return self._text(b"ROOT_ID")

    def message_id(self) -> str:
        """ID as the entry's own field says it."""
        return self._text(b"ID")

    def _text(self, name: bytes) -> str:
        pairs = dict(zip(self.fields[::2], self.fields[1::2], strict=False))
        return pairs.get(name, b"").decode(errors="replace")[:128]


class Consumer(Protocol):
    """How a replica reads, and how its commits say that an entry is done."""

    def read_command(self, block_ms: int) -> Command: ...

    def guard(self, commit: Commit, delivery: Delivery) -> None: ...

    def mark(self, commit: Commit, delivery: Delivery) -> None: ...

    def pass_by(self, delivery: Delivery) -> None: ...

    def superseded(self, guard: int) -> bool: ...

    def committed(self, delivery: Delivery) -> None: ...


def deliveries(reply: Any, by_key: dict[bytes, Stream]) -> list[Delivery]:
    """The deliveries in the answer of XREADGROUP or XREAD, without deleted entries."""
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
        self._owed = {
            stream.key: (names.stream(*stream.key), names.done(group, *stream.key), group)
            for stream in streams
        }
        self._head = [b"XREADGROUP", b"GROUP", group.encode(), consumer.encode()]
        self._reads: dict[int, bytes] = {}

    def read_command(self, block_ms: int) -> Command:
        """Waits for new messages. The same every time, so it is packed once."""
        command = self._reads.get(block_ms)
        if command is None:
            how = [b"COUNT", READ_COUNT, b"BLOCK", b"%d" % block_ms, b"STREAMS"]
            command = packed(*self._head, *how, *self.keys, *[b">"] * len(self.keys))
            if len(self._reads) < READS_REMEMBERED:
                self._reads[block_ms] = command
        return command

    def own_command(self) -> list[bytes]:
        """Reads again what this consumer was given and has not committed (the answer was lost)."""
        return [*self._head, b"STREAMS", *self.keys, *[b"0"] * len(self.keys)]

    def pending_command(self, delivery: Delivery) -> list[bytes]:
        """Asks how often an entry was delivered."""
        entry = delivery.entry.encode()
        return [b"XPENDING", self.key_of(delivery), self.group.encode(), entry, entry, b"1"]

    def in_hand_command(self, key: bytes) -> list[bytes]:
        """Asks what of a stream this consumer was given and has not committed."""
        return [b"XPENDING", key, self.group.encode(), b"-", b"+", b"1000", self.consumer.encode()]

    def release_command(self, key: bytes, entries: list[bytes], lease_ms: int) -> list[bytes]:
        """Lets the leases of these entries be over."""
        head = [b"XCLAIM", key, self.group.encode(), self.consumer.encode(), b"0"]
        return [*head, *entries, b"IDLE", b"%d" % lease_ms, b"JUSTID"]

    def claim_command(self, key: bytes, entry: str, lease_ms: int) -> list[bytes]:
        """Takes one entry over, if nobody else did within the lease; the server counts it."""
        return [
            b"XCLAIM",
            key,
            self.group.encode(),
            self.consumer.encode(),
            b"%d" % lease_ms,
            entry.encode(),
        ]

    def guard(self, commit: Commit, delivery: Delivery) -> None:
        """The commit stands only while the group owes the entry."""
        commit.pending(*self._owed[delivery.stream.key], delivery.entry)

    def mark(self, commit: Commit, delivery: Delivery) -> None:
        """An entry that no handler wanted."""
        commit.mark(*self._owed[delivery.stream.key], delivery.entry)

    def pass_by(self, delivery: Delivery) -> None:
        """Nothing to keep: the group knows."""

    def superseded(self, guard: int) -> bool:
        """Whether this guard says that the entry is somebody else's; the group says it itself."""
        return False

    def committed(self, delivery: Delivery) -> None:
        """Nothing to keep: the group knows."""

    def key_of(self, delivery: Delivery) -> bytes:
        """The key of the stream that a delivery came from."""
        return self._owed[delivery.stream.key][0].encode()


class EveryoneConsumer:
    """A position of this replica's own: each replica sees each message, and delays nobody.

    A named replica goes on where its last commit stood; an unnamed one sees what comes from now on.
    A position is "entry id, how many entries of the stream had passed by then".
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
        """Begins at the stored position, else after the newest entry; how many it missed."""
        self._stored[key] = stored
        if stored is None:
            self._at[key] = (newest, added)
            return 0
        entry, _, seen = stored.partition(b" ")
        missed = max(0, added - length - int(seen))
        self._at[key] = (entry, int(seen) + missed)
        return missed

    def read_command(self, block_ms: int) -> Command:
        """Waits for messages after the positions."""
        head = [b"XREAD", b"COUNT", READ_COUNT, b"BLOCK", b"%d" % block_ms, b"STREAMS"]
        return head + list(self._at) + [entry for entry, _ in self._at.values()]

    def guard(self, commit: Commit, delivery: Delivery) -> None:
        """The commit stands only if this replica's position is where it was, and moves it."""
        self.pass_by(delivery)
        if self.position_key:
            key = self._key(delivery)
            commit.same(self.position_key, key, self._stored[key])
            commit.do(b"HSET", self.position_key, key, b"%s %d" % self._at[key])

    def mark(self, commit: Commit, delivery: Delivery) -> None:
        """Nothing: skipped entries are passed by the position of the next commit."""

    def pass_by(self, delivery: Delivery) -> None:
        """Reads on after this entry."""
        key = self._key(delivery)
        entry = delivery.entry.encode()
        before, seen = self._at[key]
        if before != entry:
            self._at[key] = (entry, seen + 1)

    def superseded(self, guard: int) -> bool:
        """The position is the first guard: where it moved, what was read here is not ours."""
        return bool(self.position_key) and guard == 1

    def committed(self, delivery: Delivery) -> None:
        """What the position hash holds now."""
        key = self._key(delivery)
        self._stored[key] = b"%s %d" % self._at[key]

    def _key(self, delivery: Delivery) -> bytes:
        return self._names.stream(*delivery.stream.key).encode()
