"""The format of keys in a backup: a header per key, then its items, as lines of JSON.

    hash      [field, value]
    zset      [member, score]
    string    [value]
    stream    [id, name, value, name, value, ...], then the pending entries of each of its groups:
              [id, consumer, delivered at (unix ms), delivery count]
    snapshot  [piece]: the bytes of a snapshot that a model points to, whatever its store

Bytes that are valid UTF-8 are JSON texts; others are {"base64": text}. A score is a text, because
JSON has no infinity.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from roomgrad.errors import FormatError, format_value

SNAPSHOT = "snapshot"
KINDS = ("hash", "zset", "string", "stream", SNAPSHOT)
ALIVE = b"alive:"  # heartbeats belong to processes, not to the run
RESTORING = b"restoring:"  # keys of a restore that has not finished
_GUEST = re.compile(rb"@guest~[^:]+")  # without its stream, a guest is gone

_MODEL = re.compile(rb"model:([^:]+)")
_OF_SNAPSHOTS = re.compile(rb"model:[^:]+:(snapshot:[^:]+:[0-9]+|snapshotter)")
_ENTRY_ID = re.compile(r"(\d{1,20})-(\d{1,20})")
_MAX_ID = 2**64 - 1
EntryID = tuple[int, int]
Item = list[Any]


@dataclass(frozen=True)
class GroupState:
    """A consumer group of a stream."""

    name: bytes
    last: str  # ID of the entry delivered last
    read: int | None  # entries that it has read; None if the server has lost count
    pending: int


@dataclass(frozen=True)
class StreamState:
    """What a server stores of a stream besides its entries."""

    last: str  # the highest ID that was ever added
    added: int  # how many entries were ever added
    deleted: str  # the highest ID that was deleted
    groups: tuple[GroupState, ...]


@dataclass(frozen=True)
class KeyHeader:
    """One key of the run: its name without the prefix `{run}:`, and how many items follow."""

    key: bytes
    kind: str
    items: int
    expires_ms: int | None = None
    stream: StreamState | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the header as it is written."""
        found: dict[str, Any] = {"key": encoded(self.key), "type": self.kind, "items": self.items}
        if self.expires_ms is not None:
            found["expires_ms"] = self.expires_ms
        if self.stream is not None:
            state = self.stream
            groups = [{**vars(each), "name": encoded(each.name)} for each in state.groups]
            found |= {"last": state.last, "added": state.added, "deleted": state.deleted}
            found["groups"] = groups
        return found

    @property
    def entries(self) -> int:
        """The number of items that are entries of a stream; the others are pending entries."""
        groups = self.stream.groups if self.stream else ()
        return self.items - sum(group.pending for group in groups)


def is_left_out(key: bytes) -> bool:
    """Return whether a key belongs to a process and not to the run, or is a piece of a snapshot.

    Snapshots are copied as a whole from where they are stored.
    """
    patterns = (_OF_SNAPSHOTS, _GUEST)
    return key.startswith((ALIVE, RESTORING)) or any(each.fullmatch(key) for each in patterns)


def component_of(header: KeyHeader) -> str:
    """Return the component of the hash of a model; empty for another key."""
    found = _MODEL.fullmatch(header.key) if header.kind == "hash" else None
    return found[1].decode(errors="replace") if found else ""


def encoded(value: bytes) -> str | dict[str, str]:
    """Return bytes as JSON holds them."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


# Parsing. Each function raises FormatError if the value is not what its name says.


def _unexpected(what: str, value: Any) -> FormatError:
    return FormatError(f"expected {what}, got {format_value(value)}")


def parse_bytes(value: Any) -> bytes:
    """Return the bytes of a JSON value that `encoded` made."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except ValueError as error:
            raise FormatError(f"a value is not base64 ({error})") from error
    raise _unexpected("a text or base64", value)


def parse_id(value: Any) -> EntryID:
    """Return the two numbers of an entry ID."""
    found = _ENTRY_ID.fullmatch(value) if isinstance(value, str) else None
    if found is None or max(map(int, found.groups())) > _MAX_ID:
        raise _unexpected("the ID of an entry", value)
    return int(found[1]), int(found[2])


def parse_count(value: Any, low: int = 0) -> int:
    """Return a whole number of at least `low` that Redis can hold."""
    if type(value) is not int or not low <= value < 2**63:
        raise _unexpected("a whole number", value)
    return value


def parse_score(value: Any) -> str:
    """Return a score as Redis reads it."""
    try:
        if isinstance(value, str) and len(value) < 40 and not math.isnan(float(value)):
            return value
    except ValueError:
        pass
    raise _unexpected("a score", value)


def parse_header(value: Any) -> KeyHeader:
    """Return the header of a key."""
    if not isinstance(value, dict) or value.get("type") not in KINDS:
        raise _unexpected("a key", value)
    key, kind, expires = parse_bytes(value.get("key")), value["type"], value.get("expires_ms")
    if key.startswith((ALIVE, RESTORING)):
        raise FormatError(f"the key {format_value(key)} does not belong in a backup")
    found = KeyHeader(
        key,
        kind,
        parse_count(value.get("items")),
        None if expires is None else parse_count(expires, 1),
        _parse_stream(value) if kind == "stream" else None,
    )
    if (
        kind not in ("stream", SNAPSHOT)
        and found.items != 1
        and (kind == "string" or not found.items)
    ):
        raise FormatError(f"the {kind} {format_value(key)} has {found.items} items")
    if found.entries < 0:
        raise FormatError(f"the stream {format_value(key)} has more pending entries than items")
    return found


def _parse_stream(value: dict[str, Any]) -> StreamState:
    groups = value.get("groups")
    if not isinstance(groups, list) or not all(isinstance(each, dict) for each in groups):
        raise _unexpected("groups", groups)
    found = tuple(map(_parse_group, groups))
    if len({group.name for group in found}) < len(found):
        raise FormatError("two groups of a stream have the same name")
    last, deleted = _checked_id(value.get("last")), _checked_id(value.get("deleted"))
    if parse_id(deleted) > parse_id(last):
        raise FormatError(f"entry {deleted} was deleted, but the newest ID is {last}")
    return StreamState(last, parse_count(value.get("added")), deleted, found)


def _parse_group(value: dict[str, Any]) -> GroupState:
    read = value.get("read")
    return GroupState(
        parse_bytes(value.get("name")),
        _checked_id(value.get("last")),
        None if read is None else parse_count(read),
        parse_count(value.get("pending")),
    )


def _checked_id(value: Any) -> str:
    parse_id(value)
    return str(value)


def parse_items(header: KeyHeader, lines: Iterator[Any]) -> Iterator[Item]:
    """Yield the items of a key, with their parts as bytes, numbers and IDs.

    Raises FormatError for an item that Redis would not accept.
    """
    before, entries = (0, 0), header.entries
    if header.stream is not None and header.stream.added < entries:
        raise FormatError(
            f"the stream {format_value(header.key)} has more entries than were ever added"
        )
    for number in range(header.items):
        line = next(lines)
        if not isinstance(line, list):
            raise _unexpected(f"an item of {format_value(header.key)}", line)
        if header.stream is None:
            yield _parse_item(header, line)
        elif number < entries:
            item = _parse_entry(header, line)
            if not before < (now := parse_id(line[0])) <= parse_id(header.stream.last):
                raise FormatError(f"the entries of {format_value(header.key)} are not in order")
            before = now
            yield item
        else:
            yield _parse_pending(header, line)


def _parse_item(header: KeyHeader, line: Item) -> Item:
    _check_parts(header, line, len(line) == (1 if header.kind in ("string", SNAPSHOT) else 2))
    if header.kind == "zset":
        return [parse_bytes(line[0]), parse_score(line[1])]
    return [parse_bytes(part) for part in line]


def _parse_entry(header: KeyHeader, line: Item) -> Item:
    _check_parts(header, line, len(line) >= 3 and len(line) % 2 == 1)
    return [_checked_id(line[0]), *(parse_bytes(part) for part in line[1:])]


def _parse_pending(header: KeyHeader, line: Item) -> Item:
    _check_parts(header, line, len(line) == 4)
    return [_checked_id(line[0]), parse_bytes(line[1]), parse_count(line[2]), parse_count(line[3])]


def _check_parts(header: KeyHeader, line: Item, fits: bool) -> None:
    if not fits:
        raise FormatError(f"an item of {format_value(header.key)} has {len(line)} parts")
