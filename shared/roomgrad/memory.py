"""What a component remembers: hashes that a handler reads at once and writes with its commit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from roomgrad.codec import pack, parse_body, unpack
from roomgrad.errors import StrayMessage

# Reads one field of a hash, or None. The runtime gives a real one; tests give a dict's.
Read = Callable[[str, bytes], bytes | None]


class Cache:
    """Values that this process committed last, so that reading them again costs no round trip.

    It may be wrong at any time: whatever is read is a guard of the commit, so a value that somebody
    else changed makes the commit stale, and the handler runs again without the cache.
    """

    def __init__(self, entries: int = 256, largest: int = 64 * 1024) -> None:
        self._entries = entries
        self._largest = largest
        self._values: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self.hits = 0

    def reader(self, read: Read) -> Read:
        """`read`, asked only for what is not here."""

        def cached(key: str, field: bytes) -> bytes | None:
            value = self._values.get((key, field))
            if value is None:
                return read(key, field)
            self.hits += 1
            return value

        return cached

    def remember(self, key: str, field: bytes, value: bytes | None) -> None:
        """What a commit has written; None: the field is gone."""
        self._values.pop((key, field), None)
        if value is not None and len(value) <= self._largest:
            self._values[key, field] = value
            if len(self._values) > self._entries:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forgets everything."""
        self._values.clear()


class Table:
    """A hash of packed records: reads are remembered for the commit's guards, writes are staged.

    A handler sees its own staged writes.
    """

    def __init__(self, key: str, read: Read) -> None:
        self.key = key
        self._read = read
        self.seen: dict[str, bytes | None] = {}
        self.staged: dict[str, bytes | None] = {}

    def get(self, field: str) -> dict[str, Any] | None:
        """The record of a field, or None. The commit fails if it changes until then."""
        value = self._value(field)
        return None if value is None else unpack(value)

    def put(self, field: str, /, **record: Any) -> None:
        """Stages a record: texts, numbers, lists and numpy arrays, by name."""
        self.staged[field] = pack(record)

    def delete(self, field: str) -> None:
        """Stages that the field goes."""
        self.staged[field] = None

    def _value(self, field: str) -> bytes | None:
        if field in self.staged:
            return self.staged[field]
        if field not in self.seen:
            self.seen[field] = self._read(self.key, field.encode())
        return self.seen[field]


class Memory(Table):
    """The memory of a component: one record per open root, or per message that waits for its reply.

    Every record carries its ROOT_ID, so that it goes when the root is given up. A record that
    names `weights` (a model version) keeps those weights for as long as it stands.
    """

    def __init__(self, key: str, read: Read, root_id: str = "", training: bool = True) -> None:
        super().__init__(key, read)
        self._root_id = root_id
        self._training = training

    def weights_moved(self) -> tuple[list[str], list[str]]:
        """The model versions that one more record needs after the commit, and that one less."""
        retained, released = [], []
        for field, value in self.staged.items():
            before, now = _version(self.seen.get(field)), _version(value)
            if before != now:
                retained += [now] if now else []
                released += [before] if before else []
        return retained, released

    def put(self, field: str, /, **record: Any) -> None:
        """Remembers a record under a message's ID or a root's. Arrays may be of any shape.

        A VALIDATE message is answered and leaves no memory: then nothing is put.
        """
        if not self._training:
            return
        super().put(field, ROOT_ID=record.pop("ROOT_ID", self._root_id), **record)

    def pop(self, field: str) -> dict[str, Any]:
        """Takes a record out. Raises StrayMessage when nobody waits under that ID (any more)."""
        record = self.get(field)
        if record is None:
            raise StrayMessage(f"no memory of {field}: its root is unknown or was answered before")
        self.delete(field)
        return record


def _version(value: bytes | None) -> str | None:
    """The model version that a packed record needs."""
    if value is None:
        return None
    head = value.partition(b"\n")[0]
    if b'"weights":' not in head:
        return None
    version: str | None = parse_body(head).get("weights")
    return version


class Counters:
    """Whole numbers that grow with the commit."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.staged: dict[str, int] = {}

    def add(self, name: str, count: int = 1) -> None:
        """Adds to a counter once this handler's commit stands."""
        self.staged[name] = self.staged.get(name, 0) + count
