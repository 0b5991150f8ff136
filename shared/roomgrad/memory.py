"""What a component stores between messages: hashes that handlers read, and write with a commit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Protocol

from roomgrad.codec import head, pack, parse_body, unpack
from roomgrad.errors import MessageError, StrayMessage

MAX_OPEN_ROOTS = 200_000
"""Upper bound, so that a component that never closes roots cannot fill Redis."""

GATHERED = "gathered"  # the field by which a record tells of messages that wait for others


class Reads(Protocol):
    """How hashes are read: by the server in the runtime, from a dict in tests."""

    def hget(self, key: str, field: bytes) -> bytes | None:
        """Return one field, or None."""

    def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
        """Return some fields, in one round trip."""

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        """Return a whole hash."""

    def time(self) -> float:
        """Return the Unix time in seconds by the server's clock."""


class Cache:
    """Values that this process committed last, so that reading them again costs no round trip.

    The cache may be outdated at any time. Whatever is read is a guard of the commit, so a value
    that another process changed makes the commit stale, and the handler runs again without the
    cache.
    """

    def __init__(self, entries: int = 256, largest: int = 64 * 1024) -> None:
        self._entries = entries
        self._largest = largest
        self._values: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self.hits = 0

    def get(self, key: str, field: bytes) -> bytes | None:
        """Return what was committed here last, or None if it is unknown."""
        value = self._values.get((key, field))
        if value is not None:
            self.hits += 1
        return value

    def remember(self, key: str, field: bytes, value: bytes | None) -> None:
        """Store what a commit has written; None: the field was deleted."""
        self._values.pop((key, field), None)
        if value is not None and len(value) <= self._largest:
            self._values[key, field] = value
            if len(self._values) > self._entries:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()


class CachedReads:
    """Reads that ask the server only for single fields that the cache does not hold."""

    def __init__(self, reads: Reads, cache: Cache) -> None:
        self._reads = reads
        self._cache = cache
        self.hmget = reads.hmget
        self.hgetall = reads.hgetall
        self.time = reads.time

    def hget(self, key: str, field: bytes) -> bytes | None:
        """Return one field, or None."""
        value = self._cache.get(key, field)
        return self._reads.hget(key, field) if value is None else value


class Table:
    """A hash of packed records: reads are remembered as guards of the commit, writes are staged.

    A handler reads its own staged writes.
    """

    def __init__(self, key: str, reads: Reads) -> None:
        self.key = key
        self._reads = reads
        self.seen: dict[str, bytes | None] = {}
        self.staged: dict[str, bytes | None] = {}

    def get(self, field: str) -> dict[str, Any] | None:
        """Return the record of a field, or None. The commit fails if it changes meanwhile."""
        value = self._value(field)
        return None if value is None else unpack(value)

    def get_many(self, fields: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the records of the fields that exist, read in one round trip; each is a guard."""
        names = list(dict.fromkeys(fields))
        unseen = [name for name in names if name not in self.staged and name not in self.seen]
        if unseen:
            found = self._reads.hmget(self.key, [name.encode() for name in unseen])
            self.seen.update(zip(unseen, found, strict=True))
        values = ((name, self._value(name)) for name in names)
        return {name: unpack(value) for name, value in values if value is not None}

    def peek(self) -> dict[str, dict[str, Any]]:
        """Return all records, with what is staged, and guard none of them.

        For tables of which one field changes with every write, and was read before as the guard.
        """
        found = self._reads.hgetall(self.key)
        now = {name.decode(errors="replace"): value for name, value in found.items()}
        values = {**now, **self.staged}
        return {name: unpack(value) for name, value in values.items() if value is not None}

    def put(self, field: str, /, **record: Any) -> None:
        """Stage a record: texts, numbers, lists and numpy arrays, by name."""
        self.staged[field] = pack(record)

    def delete(self, field: str) -> None:
        """Stage the deletion of a field."""
        self.staged[field] = None

    def _value(self, field: str) -> bytes | None:
        if field in self.staged:
            return self.staged[field]
        if field not in self.seen:
            self.seen[field] = self._reads.hget(self.key, field.encode())
        return self.seen[field]


class Memory(Table):
    """The memory of a component: one record per open root, or per message that awaits its reply.

    Every record holds its ROOT_ID, so that it is deleted when the root is given up. A record with
    `weights` (a model version) keeps those weights for as long as it exists.
    """

    def __init__(
        self, key: str, reads: Reads, root_id: str = "", stores: bool = True, open_roots: int = 0
    ) -> None:
        super().__init__(key, reads)
        self._root_id = root_id
        self._stores = stores
        self._open_roots = open_roots  # at the last heartbeat

    def weight_changes(self) -> tuple[list[str], list[str]]:
        """Return the model versions that one more record needs after the commit, and one less."""
        retained, released = [], []
        for field, value in self.staged.items():
            before, now = _version(self.seen.get(field)), _version(value)
            if before != now:
                retained += [now] if now else []
                released += [before] if before else []
        return retained, released

    def put(self, field: str, /, **record: Any) -> None:
        """Store a record under a message's ID or a root's. Arrays may be of any shape.

        A VALIDATE message is answered and leaves no memory: then nothing is stored.

        Raises MessageError while too many roots are open, unless a record is deleted, too.
        """
        if self._stores:
            self.hold(field, **record)

    def hold(self, field: str, /, **record: Any) -> None:
        """Store a record for any message, also one to validate. Raises MessageError as `put`."""
        if self._open_roots >= MAX_OPEN_ROOTS and None not in self.staged.values():
            raise MessageError(
                f"{self.key} holds {self._open_roots} open roots, expected fewer than "
                f"{MAX_OPEN_ROOTS}: no answer closes them; `roomgrad memory` shows them"
            )
        super().put(field, ROOT_ID=record.pop("ROOT_ID", self._root_id), **record)

    def pop(self, field: str) -> dict[str, Any]:
        """Delete a record and return it. Raises StrayMessage if there is none under that ID."""
        record = self.get(field)
        if record is None:
            raise StrayMessage(f"no memory of {field}: its root is unknown or was answered before")
        self.delete(field)
        return record


def _version(value: bytes | None) -> str | None:
    """Return the model version that a packed record needs."""
    if value is None:
        return None
    line = head(value)
    if b'"weights":' not in line:
        return None
    version: str | None = parse_body(line, exact=False).get("weights")
    return version


class Counters:
    """Whole numbers that grow with the commit."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.staged: dict[str, int] = {}

    def add(self, name: str, count: int = 1) -> None:
        """Add to a counter when this handler's commit is applied."""
        self.staged[name] = self.staged.get(name, 0) + count
