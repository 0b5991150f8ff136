"""Seats: what a client's name is owed, whether somebody sits there or not.

A seat reads by a group of its own, so what comes while nobody sits there waits for who comes next.
Each client has a seat for itself, and gets everything; with `--share` one seat serves all clients
of a name, and each message goes to one of them. The seat of the last client of a name is kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roomgrad.names import Names

from .bodies import Entry

if TYPE_CHECKING:
    from .connection import Connection

Key = tuple[str, str]  # room and TYPE
Owed = tuple[Key, str]  # and the entry

ROOTS_REMEMBERED = 10_000
MOST_OWED = 1000  # of what was sent and not answered
OWN_UNREAD = 32  # messages of a seat's own clients after which it passes over them


def written_ms(entry: str) -> int:
    """When an entry was written, in unix ms of the server's clock."""
    return int(entry.partition("-")[0])


@dataclass(eq=False)
class Seat:
    """One seat of a name."""

    name: str
    number: int = 1
    rooms: dict[str, int] = field(default_factory=dict)
    """Since when it is in which room, in unix ms of the server's clock."""

    left_ms: int | None = None
    """When its last client left; None while one sits there."""

    taken_ms: int = 0
    """When a client took it."""

    letters: int = 0
    """How many dead letters it has cost since a client last took something."""

    connections: list[Connection] = field(default_factory=list)
    fresh: set[Key] = field(default_factory=set)
    """Streams with something new to read."""

    again: deque[tuple[Key, str, dict[bytes, bytes]]] = field(default_factory=deque)
    """What was given to the seat before, and is to be sent again."""

    done: list[Owed] = field(default_factory=list)
    """What needs no answer, or is not for this seat: to be acknowledged with the next read."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    losses: int = 0
    _owed: OrderedDict[Owed, tuple[str, str]] = field(default_factory=OrderedDict)
    _by_root: dict[str, list[Owed]] = field(default_factory=dict)
    _roots: OrderedDict[str, tuple[str, str] | None] = field(default_factory=OrderedDict)
    _own_unread: int = 0

    @property
    def group(self) -> str:
        return Names.client_group(self.name, self.number)

    @property
    def vacant(self) -> bool:
        return not self.connections

    # what is new

    def rang(self, key: Key, by: str) -> None:
        """Something new stands in a stream; what its own client said can wait to be passed over."""
        self.fresh.add(key)
        own = any(by == connection.id for connection in self.connections)
        if own and not key[0].startswith("@"):
            self._own_unread += 1
            if self._own_unread < OWN_UNREAD:
                return
        self.news.set()

    def look(self, keys: Iterable[Key]) -> None:
        """These streams may hold something new."""
        self.fresh.update(keys)
        self.news.set()

    def take_fresh(self) -> list[Key]:
        """The streams to read now: those of rooms in which one of its clients is."""
        keys = sorted(key for key in self.fresh if self.in_room(key[0]))
        self.fresh.difference_update(keys)
        self._own_unread = 0
        return keys

    # who gets it

    def is_own(self, entry: Entry) -> bool:
        """Whether an entry is its own: a name gets those only by its other clients, and live.

        Who names itself in TO means itself.
        """
        if any(entry.sender == connection.id for connection in self.connections):
            return not entry.room.startswith("@")
        return entry.sender_name == self.name and (
            len(self.connections) != 1 or entry.written_ms < self.taken_ms
        )

    def in_room(self, room: str) -> list[Connection]:
        """Its clients that are in a room."""
        return [each for each in self.connections if room in each.rooms]

    def load(self, connection: Connection) -> int:
        """How much a client has not answered yet."""
        return sum(by == connection.id for _, by in self._owed.values())

    # what is owed

    def opens(self, root: str) -> bool:
        """Whether a message of this root would open it: none of it went to or came from here."""
        return root not in self._roots

    def opened(self, root: str, id_: str, room: str) -> None:
        """A client has opened a root with this message."""
        self._remember(root, (id_, room))

    def _remember(self, root: str, opening: tuple[str, str] | None) -> None:
        self._roots.setdefault(root, opening)
        self._roots.move_to_end(root)
        if len(self._roots) > ROOTS_REMEMBERED:
            self._roots.popitem(last=False)

    def sent(self, key: Key, entry: Entry, to: Connection, resend: bool) -> None:
        """An entry was written to a client: it is owed until it is answered."""
        owed = (key, entry.entry)
        closes = self._closes(entry)
        self._remember(entry.root_id, None)
        if closes or not resend:
            self.done.append(owed)
            return
        if owed in self._owed:
            return
        self._owed[owed] = (entry.root_id, to.id)
        self._by_root.setdefault(entry.root_id, []).append(owed)
        if len(self._owed) > MOST_OWED:
            self._settle(next(iter(self._owed)))

    def _closes(self, entry: Entry) -> bool:
        """The gradient of the message with which a client opened its root: nothing can follow."""
        opening = self._roots.get(entry.root_id)
        return entry.type == "DATA/GRADIENT" and opening == (entry.id, entry.room)

    def knows(self, owed: Owed) -> bool:
        """Whether an entry is on its way here: sent and not answered, or about to be sent again."""
        again = ((key, entry) for key, entry, _ in self.again)
        return owed in self._owed or owed in self.done or owed in again

    def answered(self, root: str) -> list[Owed]:
        """What a message of this root answers."""
        return list(self._by_root.get(root, ()))

    def settle(self, answers: Iterable[Owed]) -> None:
        """These are acknowledged."""
        for owed in answers:
            found = self._owed.pop(owed, None)
            if found is None:
                continue
            of_root = self._by_root[found[0]]
            of_root.remove(owed)
            if not of_root:
                del self._by_root[found[0]]

    def _settle(self, owed: Owed) -> None:
        self.settle([owed])
        self.done.append(owed)

    def settle_until(self, before_ms: int) -> None:
        """What is older than that is not waited for any more."""
        while self._owed:
            oldest = next(iter(self._owed))
            if written_ms(oldest[1]) >= before_ms:
                return
            self._settle(oldest)

    def owed_to(self, connection: Connection) -> list[Owed]:
        """What a client leaves behind without an answer."""
        return [owed for owed, (_, by) in self._owed.items() if by == connection.id]

    def empty(self) -> None:
        """Forgets what stands in its group anyway, when its last client has left."""
        self._owed.clear()
        self._by_root.clear()
        self.again.clear()
        self.fresh.clear()
