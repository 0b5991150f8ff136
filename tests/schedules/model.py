"""What a run must store: every key after every command of its replicas, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.integration.echo import REQUESTS
from tests.schedules.stepping import NAMES

INPUT = NAMES.stream(*REQUESTS.key).encode()
INBOX = NAMES.stream(NAMES.inbox("echo"), "LOG/ERROR").encode()

PLAIN, LATE, BAD, OPEN, CLOSE, NOTICE = range(6)
"""What a message does: it is answered, or later, or given up; it writes and deletes memory."""


@dataclass
class Group:
    """The consumer group of `echo` in one stream."""

    exists: bool = False
    entries: list[bytes] = field(default_factory=list)
    delivered: int = 0
    pending: set[bytes] = field(default_factory=set)
    done: set[bytes] = field(default_factory=set)

    def create(self) -> None:
        """Begin with the first entry that is not done."""
        self.exists = True
        undone = (n for n, entry in enumerate(self.entries) if entry not in self.done)
        self.delivered = next(undone, len(self.entries))

    def destroy(self) -> None:
        self.exists = False
        self.pending.clear()


@dataclass
class Model:
    """The run, and what each of its entries is."""

    groups: dict[bytes, Group] = field(default_factory=lambda: {INPUT: Group(), INBOX: Group()})
    kinds: dict[tuple[bytes, bytes], tuple[int, str]] = field(default_factory=dict)
    """By stream and entry: entries of one millisecond have one ID in each stream."""
    replies: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    memory: set[str] = field(default_factory=set)
    dead: dict[bytes, str] = field(default_factory=dict)
    received: int = 0
    notices: int = 0

    def add(self, key: bytes, entry: bytes, kind: int, root: str) -> None:
        """Add an entry to a stream."""
        self.groups[key].entries.append(entry)
        self.kinds[key, entry] = kind, root

    def read(self, key: bytes, entries: list[bytes]) -> None:
        """Deliver the entries that follow."""
        group = self.groups[key]
        expected = group.entries[group.delivered :][: len(entries)]
        assert entries == expected, (key, entries, group)
        group.delivered += len(entries)
        group.pending.update(entries)

    def commit(self, key: bytes, entry: bytes, reply: list[Any]) -> None:
        """Apply the commit of an entry once, if the group owes it."""
        group = self.groups[key]
        if reply[0] == b"stale":  # a value that it read has changed: nothing is written
            assert entry in group.pending - group.done
            return
        owed = entry in group.pending and entry not in group.done
        assert reply[0] == (b"ok" if owed else b"gone"), (entry, reply)
        group.pending.discard(entry)
        if owed:
            group.done.add(entry)
            self._apply(*self.kinds[key, entry], reply[1:])

    def saved(self) -> None:
        """Change what a backup does not store as it was: nothing."""

    def _apply(self, kind: int, root: str, added: list[bytes]) -> None:
        if kind == BAD:
            _, inbox, _, letter = added
            self.dead[letter] = root
            self.notices += 1
            self.add(INBOX, inbox, NOTICE, root)
        elif kind != NOTICE:
            self.received += 1
            (self.late if kind == LATE else self.replies).append(root)
            self.memory |= {root} if kind == OPEN else set()
            self.memory -= {root} if kind == CLOSE else set()
