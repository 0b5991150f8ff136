"""Messages that are handled together: they wait in the memory of a component for the others."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from roomgrad import dtypes
from roomgrad.errors import SchemaError, Stale, StrayMessage
from roomgrad.guests import from_text
from roomgrad.memory import GATHERED, Memory
from roomgrad.messages import Message
from roomgrad.rooms import ModelStatus

_ARRAY = "array "  # before the names of arrays in a record


class Gathering:
    """The messages of one key, each with a name; they are handled in the order of the names.

    A record under the key says which came, so that each message is written once, into a record of
    its own. Every value that is read is a guard: of two messages that arrive at two replicas, one
    is handled again and finds the other.
    """

    def __init__(self, memory: Memory, key: str, names: Sequence[str], root_id: str) -> None:
        self._memory = memory
        self._key = key
        self._names = names
        self._root_id = root_id

    @property
    def came(self) -> list[str] | None:
        """The names whose message came; None if no message of this key is waited for."""
        record = self._memory.get(self._key)
        return None if record is None else list(record[GATHERED])

    @property
    def late(self) -> bool:
        """Whether the time to wait for the others is over."""
        return bool((self._memory.get(self._key) or {}).get("late"))

    def missing(self, came: Container[str]) -> str:
        """Return the names that are not among those that came."""
        return ", ".join(name for name in self._names if name not in came)

    def begin(self, came: Sequence[str] = (), *, late: bool = False) -> None:
        """Wait for the messages of this key, of which some came."""
        record = {GATHERED: [*came], **({"late": True} if late else {})}
        self._memory.hold(self._key, ROOT_ID=self._root_id, **record)

    def add(self, name: str, message: Message) -> None:
        """Store a message."""
        self.begin([*(self.came or ()), name], late=self.late)
        self._memory.hold(self._field(name), ROOT_ID=self._root_id, **_record(message))

    def holds(self, name: str, message: Message) -> bool:
        """Return whether a message under this name came with the same ID."""
        record = self._memory.get(self._field(name)) or {}
        return bool(record.get(GATHERED, {}).get("id") == message.id)

    def take(self, *more: tuple[str, Message]) -> dict[str, Message]:
        """Delete what came, and return it by name, in order, with more that is not stored.

        Raises Stale if another replica took it after this one has read which came.
        """
        fields = {name: self._field(name) for name in self.came or ()}
        found = self._memory.get_many(fields.values())
        if len(found) < len(fields):
            raise Stale(f"some messages of {self._key} are no longer in memory")
        for field in (self._key, *fields.values()):
            self._memory.delete(field)
        messages = {name: _message(found[field]) for name, field in fields.items()}
        messages.update(more)
        return {name: messages[name] for name in self._names if name in messages}

    def _field(self, name: str) -> str:
        return f"{self._key} {name}"


def of_gradients(memory: Memory, message: Message, senders: Sequence[str]) -> Gathering:
    """Return the gradients of the forward message that this message is, or answers."""
    return Gathering(memory, f"{message.id} gradients", senders, message.root_id)


def whole_gradient(memory: Memory, message: Message, senders: Sequence[str]) -> Message | None:
    """Return the sum of the gradients of an ID with the last of them, and None with the others.

    Raises StrayMessage if this one is not waited for.
    """
    found, sender = of_gradients(memory, message, senders), message.sent_by
    came = found.came
    if came is None:
        raise StrayMessage(f"no memory of {message.id}: its root is unknown or was answered before")
    if sender not in senders:
        raise StrayMessage(
            f"{sender or 'a client'} sent a gradient into room {message.room}, which the contract "
            f"expects from {', '.join(senders)}"
        )
    if sender in came:
        raise StrayMessage(f"{sender} has sent a gradient of {message.id} before, which counts")
    if len(came) + 1 < len(senders):
        found.add(sender, message)
        return None
    return add_up([*found.take((sender, message)).values()])


def add_up(messages: Sequence[Message]) -> Message:
    """Return one gradient for several of one ID: arrays of one name are added in this order.

    A gradient without a name counts as zero there. Raises SchemaError for different shapes.
    """
    sums: dict[str, NDArray[Any]] = {}
    for message in messages:
        for name, array in message.arrays().items():
            sums[name] = _sum(name, sums[name], array, message) if name in sums else array
    texts = {name: each for message in messages[::-1] for name, each in message.fields.items()}
    found = replace(messages[0], data=None, fields={})
    found.fill(sums, **{name: each for name, each in texts.items() if name not in sums})
    return found


def _sum(name: str, one: NDArray[Any], other: NDArray[Any], message: Message) -> NDArray[Any]:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        raise SchemaError(
            f"{name}: {message.sent_by} sent a gradient {dtypes.name_of(other.dtype)} "
            f"{other.shape} of {message.id}, and others {dtypes.name_of(one.dtype)} {one.shape}"
        )
    total: NDArray[Any] = one + other
    return total


def _record(message: Message) -> dict[str, Any]:
    arrays = message.arrays()
    about = {
        name: getattr(message, name) for name in ("room", "type", "id", "sent_by", "entry", "seed")
    }
    return {
        GATHERED: {
            **about,
            "status": int(message.status),
            "guest": message.guest.to_text().decode() if message.guest else None,
            "fields": {n: each for n, each in message.fields.items() if n not in arrays},
        },
        **{_ARRAY + name: array for name, array in arrays.items()},
    }


def part_of(record: Mapping[str, Any]) -> Message | None:
    """Return the message of a record of memory; None if the record is of something else."""
    return _message(record) if isinstance(record.get(GATHERED), dict) else None


def _message(record: Mapping[str, Any]) -> Message:
    about = dict(record[GATHERED])
    status, guest = ModelStatus(about.pop("status")), about.pop("guest")
    found = Message(
        **about,
        root_id=record["ROOT_ID"],
        status=status,
        guest=from_text(guest.encode()) if guest else None,
    )
    found.fill({n.removeprefix(_ARRAY): each for n, each in record.items() if n.startswith(_ARRAY)})
    return found
