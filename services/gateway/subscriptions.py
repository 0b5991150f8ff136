"""Subscriptions: the messages that a client's name gets, whether a client is connected or not.

Each subscription reads through a consumer group of its own, so that messages which arrive while its
client is away wait for the next client of that name. Each client has its own subscription and gets
every message; with `--share`, all clients of a name share one, and each message goes to one of
them. The subscription of the last client of a name is kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roomgrad.guests import Guest
from roomgrad.names import Names

from .codec import Entry

if TYPE_CHECKING:
    from .connection import Connection

StreamKey = tuple[str, str]  # room and TYPE
EntryRef = tuple[StreamKey, str]  # stream and entry ID

MAX_ROOTS = 10_000  # that a subscription remembers
MAX_UNACKNOWLEDGED = 1000  # messages sent and not answered
MAX_OWN_UNREAD = 32  # messages of its own clients after which it reads, to pass over them


def written_ms(entry: str) -> int:
    """Return when an entry was added, in Unix ms of the server's clock."""
    return int(entry.partition("-")[0])


@dataclass
class Root:
    """What a subscription remembers of a root."""

    opening: tuple[str, str] | None = None
    """ID and room of the message by which one of its clients opened it."""

    seed: int | None = None
    status: int | None = None
    guest: Guest | None = None

    def inherited(self) -> dict[str, int]:
        """Return what a reply without these fields has."""
        values = {"SEED": self.seed, "MODEL_STATUS": self.status}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(eq=False)
class Subscription:
    """One subscription of a name."""

    name: str
    number: int = 1
    rooms: dict[str, int] = field(default_factory=dict)
    """Rooms that it has joined, and when, in Unix ms of the server's clock."""

    left_ms: int | None = None
    """When its last client left; None while one is connected."""

    attached_ms: int = 0
    """When a client was attached."""

    shared_ms: int = 0
    """When one of several clients left."""

    dead_letters: int = 0
    """How many dead letters it has caused since a client last took a message."""

    connections: list[Connection] = field(default_factory=list)
    unread: set[StreamKey] = field(default_factory=set)
    """Streams that may hold something new."""

    redeliver: deque[tuple[StreamKey, str, dict[bytes, bytes]]] = field(default_factory=deque)
    """Entries that were delivered before and are to be sent again."""

    settled: list[EntryRef] = field(default_factory=list)
    """Entries that need no answer; they are acknowledged before the next read."""

    wake_up: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    losses: int = 0
    _unacknowledged: OrderedDict[EntryRef, tuple[str, str]] = field(default_factory=OrderedDict)
    _by_root: dict[str, list[EntryRef]] = field(default_factory=dict)
    _roots: OrderedDict[str, Root] = field(default_factory=OrderedDict)
    _own_unread: int = 0

    @property
    def group(self) -> str:
        return Names.client_group(self.name, self.number)

    @property
    def is_vacant(self) -> bool:
        return not self.connections

    # what is new

    def notify(self, key: StreamKey, sender: str) -> None:
        """Wake up for a new entry; entries of its own clients may wait, as none of them gets it."""
        self.unread.add(key)
        own = any(sender == connection.id for connection in self.connections)
        if own and not key[0].startswith("@"):
            self._own_unread += 1
            if self._own_unread < MAX_OWN_UNREAD:
                return
        self.wake_up.set()

    def read_soon(self, keys: Iterable[StreamKey]) -> None:
        """Wake up to read streams that may hold something new."""
        self.unread.update(keys)
        self.wake_up.set()

    def take_unread(self) -> list[StreamKey]:
        """Return the streams to read now: those of rooms in which one of its clients is."""
        keys = sorted(key for key in self.unread if self.in_room(key[0]))
        self.unread.difference_update(keys)
        self._own_unread = 0
        return keys

    # receivers

    def is_own(self, entry: Entry) -> bool:
        """Whether its own clients sent an entry, so that they do not get it.

        A name gets entries of its other clients, while those are connected, and direct messages to
        itself.
        """
        if any(entry.sender == connection.id for connection in self.connections):
            return not entry.room.startswith("@")
        return entry.sender_name == self.name and (
            len(self.connections) != 1
            or entry.written_ms < self.attached_ms
            or entry.written_ms <= self.shared_ms
        )

    def in_room(self, room: str) -> list[Connection]:
        """Return its clients that are in a room."""
        return [each for each in self.connections if room in each.rooms]

    def load(self, connection: Connection) -> int:
        """Return how many messages a client has not answered yet."""
        return sum(by == connection.id for _, by in self._unacknowledged.values())

    # what is unacknowledged

    def opens(self, root: str) -> bool:
        """Whether a message of this root would open it: its clients know none of that root."""
        return root not in self._roots

    def opened(
        self, root: str, id_: str, room: str, seed: int | None = None, status: int | None = None
    ) -> None:
        """Remember that a client opened a root with this message."""
        self._remember(root, Root((id_, room), seed, status))

    def known(self, root: str) -> Root:
        """Return what is known of a root; swergio's clients do not repeat it in their replies."""
        return self._roots.get(root) or Root()

    def _remember(self, root: str, known: Root) -> None:
        self._roots.setdefault(root, known)
        self._roots.move_to_end(root)
        if len(self._roots) > MAX_ROOTS:
            self._roots.popitem(last=False)

    def sent(self, key: StreamKey, entry: Entry, to: Connection, resend: bool) -> None:
        """Note that an entry was written to a client: it is unacknowledged until it is answered."""
        ref = (key, entry.entry)
        closes = self._closes(entry)
        seed, status = entry.body.get("SEED"), entry.body.get("MODEL_STATUS")
        self._remember(entry.root_id, Root(None, seed, status, entry.guest))
        if closes or not resend:
            self.settled.append(ref)
            return
        if ref in self._unacknowledged:
            return
        self._unacknowledged[ref] = (entry.root_id, to.id)
        self._by_root.setdefault(entry.root_id, []).append(ref)
        if len(self._unacknowledged) > MAX_UNACKNOWLEDGED:
            self._give_up(next(iter(self._unacknowledged)))

    def _closes(self, entry: Entry) -> bool:
        """Whether it is the gradient of the message that opened its root, which needs no answer."""
        known = self.known(entry.root_id)
        return entry.type == "DATA/GRADIENT" and known.opening == (entry.id, entry.room)

    def holds(self, ref: EntryRef) -> bool:
        """Whether an entry was sent and not acknowledged yet, or is about to be sent again."""
        again = ((key, entry) for key, entry, _ in self.redeliver)
        return ref in self._unacknowledged or ref in self.settled or ref in again

    def answered_by(self, root: str) -> list[EntryRef]:
        """Return the entries that a message of this root answers."""
        return list(self._by_root.get(root, ()))

    def settle(self, answered: Iterable[EntryRef]) -> None:
        """Forget entries that were acknowledged."""
        for ref in answered:
            found = self._unacknowledged.pop(ref, None)
            if found is None:
                continue
            of_root = self._by_root[found[0]]
            of_root.remove(ref)
            if not of_root:
                del self._by_root[found[0]]

    def _give_up(self, ref: EntryRef) -> None:
        self.settle([ref])
        self.settled.append(ref)

    def give_up_before(self, before_ms: int) -> None:
        """Stop waiting for answers to entries that are older."""
        while self._unacknowledged:
            oldest = next(iter(self._unacknowledged))
            if written_ms(oldest[1]) >= before_ms:
                return
            self._give_up(oldest)

    def unacknowledged_by(self, connection: Connection) -> list[EntryRef]:
        """Return the entries that a client has got and not answered."""
        return [ref for ref, (_, by) in self._unacknowledged.items() if by == connection.id]

    def clear(self) -> None:
        """Forget what its group stores anyway, when its last client has left."""
        self._unacknowledged.clear()
        self._by_root.clear()
        self.redeliver.clear()
        self.unread.clear()
