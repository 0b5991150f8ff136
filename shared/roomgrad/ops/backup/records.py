"""What stands in a backup: keys, and the items of each, as lines of JSON.

    hash      [field, value]
    zset      [member, score]
    string    [value]
    stream    [id, name, value, name, value, ...], then the pending entries of each of its groups:
              [id, consumer, delivered at (unix ms), how often]

Bytes that are UTF-8 are JSON texts; others are {"base64": text}. A score is a text, as JSON knows
no infinity.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from roomgrad.errors import FormatError, format_value

KINDS = ("hash", "zset", "string", "stream")
ALIVE = b"alive:"  # heartbeats, which are of processes and not of the run
RESTORING = b"restoring:"  # what a restore has not finished

_ENTRY = re.compile(r"(\d{1,20})-(\d{1,20})")
_LARGEST = 2**64 - 1
_FIRST = "0-0"
Entry = tuple[int, int]


@dataclass(frozen=True)
class Group:
    """A consumer group of a stream: how far it is, and how many entries are in its hands."""

    name: bytes
    last: str
    read: int | None  # entries that it has read; None where the server has lost count
    pending: int


@dataclass(frozen=True)
class Extent:
    """What a stream knows of itself beside its entries."""

    last: str  # the newest ID that it ever gave
    added: int  # how many entries it ever had
    deleted: str  # the highest ID that was deleted
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Head:
    """A key: its name behind `{run}:`, and how many items follow."""

    key: bytes
    kind: str
    items: int
    expires_ms: int | None = None
    stream: Extent | None = None

    def written(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = {"key": text(self.key), "type": self.kind, "items": self.items}
        if self.expires_ms is not None:
            found["expires_ms"] = self.expires_ms
        if self.stream is not None:
            found["last"] = self.stream.last
            found["added"] = self.stream.added
            found["deleted"] = self.stream.deleted
            found["groups"] = [
                {
                    "name": text(each.name),
                    "last": each.last,
                    "read": each.read,
                    "pending": each.pending,
                }
                for each in self.stream.groups
            ]
        return found


def text(value: bytes) -> str | dict[str, str]:
    """Bytes as JSON has them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def data(value: Any) -> bytes:
    """The bytes behind a JSON value. Raises FormatError."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except ValueError as error:
            raise FormatError(f"a value is no base64 ({error})") from error
    raise FormatError(f"{format_value(value)} stands where a text or base64 belongs")


def entry(value: Any) -> Entry:
    """The two numbers of an entry's ID. Raises FormatError."""
    found = _ENTRY.fullmatch(value) if isinstance(value, str) else None
    if found is None or max(map(int, found.groups())) > _LARGEST:
        raise FormatError(f"{format_value(value)} stands where the ID of an entry belongs")
    return int(found[1]), int(found[2])


def whole(value: Any, low: int = 0) -> int:
    """A whole number that Redis can hold. Raises FormatError."""
    if type(value) is not int or not low <= value < 2**63:
        raise FormatError(f"{format_value(value)} stands where a whole number belongs")
    return value


def score(value: Any) -> str:
    """A score as Redis reads it. Raises FormatError."""
    try:
        if isinstance(value, str) and len(value) < 40 and not math.isnan(float(value)):
            return value
    except ValueError:
        pass
    raise FormatError(f"{format_value(value)} stands where a score belongs")


def head(value: Any) -> Head:
    """A key out of its line. Raises FormatError."""
    if not isinstance(value, dict) or value.get("type") not in KINDS:
        raise FormatError(f"{format_value(value)} stands where a key belongs")
    key = data(value.get("key"))
    if key.startswith((ALIVE, RESTORING)):
        raise FormatError(f"the key {format_value(key)} is none that a backup holds")
    kind, expires = value["type"], value.get("expires_ms")
    found = Head(
        key,
        kind,
        whole(value.get("items")),
        None if expires is None else whole(expires, 1),
        _extent(value) if kind == "stream" else None,
    )
    if kind != "stream" and found.items != 1 and (kind == "string" or not found.items):
        raise FormatError(f"the {kind} {format_value(key)} has {found.items} items")
    pending = sum(group.pending for group in found.stream.groups) if found.stream else 0
    if pending > found.items:
        raise FormatError(f"the stream {format_value(key)} has more pending entries than items")
    return found


def _extent(value: dict[str, Any]) -> Extent:
    groups = value.get("groups")
    if not isinstance(groups, list) or not all(isinstance(each, dict) for each in groups):
        raise FormatError(f"{format_value(groups)} stands where groups belong")
    found = tuple(
        Group(
            data(each.get("name")),
            _id(each.get("last")),
            None if each.get("read") is None else whole(each["read"]),
            whole(each.get("pending")),
        )
        for each in groups
    )
    if len({group.name for group in found}) < len(found):
        raise FormatError("two groups of a stream have one name")
    last, deleted = _id(value.get("last")), _id(value.get("deleted"))
    if entry(deleted) > entry(last):
        raise FormatError(f"entry {deleted} was deleted, and {last} is the newest there was")
    return Extent(last, whole(value.get("added")), deleted, found)


def _id(value: Any) -> str:
    entry(value)
    return str(value)


class Checked:
    """The items of one key, held to what Redis takes. Raises FormatError for what it does not."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._before = entry(_FIRST)
        self._entries = head.items
        if head.stream is not None:
            self._entries -= sum(group.pending for group in head.stream.groups)
            if head.stream.added < self._entries:
                raise FormatError(
                    f"the stream {format_value(head.key)} has more entries than it ever had"
                )

    def items(self, lines: Iterator[Any]) -> Iterator[list[Any]]:
        """Each item, its parts as bytes, numbers and IDs."""
        for number in range(self._head.items):
            line = next(lines)
            if not isinstance(line, list):
                raise FormatError(
                    f"{format_value(line)} stands where an item of "
                    f"{format_value(self._head.key)} does"
                )
            yield self._item(line, number)

    def _item(self, line: list[Any], number: int) -> list[Any]:
        kind = self._head.kind
        if kind == "stream":
            return self._entry(line) if number < self._entries else self._pending(line)
        if len(line) != (1 if kind == "string" else 2):
            raise FormatError(
                f"an item of the {kind} {format_value(self._head.key)} has {len(line)} parts"
            )
        if kind == "zset":
            return [data(line[0]), score(line[1])]
        return [data(part) for part in line]

    def _entry(self, line: list[Any]) -> list[Any]:
        assert self._head.stream is not None
        if len(line) < 3 or len(line) % 2 == 0:
            raise FormatError(f"an entry of {format_value(self._head.key)} has {len(line)} parts")
        now = entry(line[0])
        if not self._before < now <= entry(self._head.stream.last):
            raise FormatError(f"the entries of {format_value(self._head.key)} are not in order")
        self._before = now
        return [line[0], *(data(part) for part in line[1:])]

    def _pending(self, line: list[Any]) -> list[Any]:
        if len(line) != 4:
            raise FormatError(
                f"a pending entry of {format_value(self._head.key)} has {len(line)} parts"
            )
        entry(line[0])
        return [line[0], data(line[1]), whole(line[2]), whole(line[3])]
