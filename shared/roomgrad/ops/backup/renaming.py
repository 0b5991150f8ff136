"""The name of a run inside of what it holds: where keys and channels stand in values.

That is so in messages for later, in the history of dead letters, in positions of `everyone`
replicas and in what the gateway has heard. All other values name rooms and components alone.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from roomgrad.errors import FormatError
from roomgrad.names import GATEWAY
from roomgrad.ops.backup.records import Head

_LATER = re.compile(rb"later:[^:]+:bodies")
_COUNT = b"count"
Item = list[Any]


def renamed(head: Head, items: Iterator[Item], old: bytes, new: bytes) -> Iterator[Item]:
    """The items of a key as they are in a run whose keys begin with `new` instead of `old`.

    Raises FormatError where a message for later would go to another run.
    """
    change = _of(head)
    return (change(item, old, new) for item in items) if change else items


def _of(head: Head) -> Callable[[Item, bytes, bytes], Item] | None:
    if head.kind == "hash" and _LATER.fullmatch(head.key):
        return _later
    if head.kind == "hash" and (head.key.startswith(b"position:") or head.key == GATEWAY.encode()):
        return _field
    if head.kind == "stream" and head.key == b"dead":
        return _letter
    return None


def _later(item: Item, old: bytes, new: bytes) -> Item:
    """A message for later: [stream, channel, ...] as MessagePack. The server sends what it says."""
    field, value = item
    if field == _COUNT:
        return item
    stream, channel, *rest = unpack(value)
    if not (stream.startswith(old) and channel.startswith(old)):
        raise FormatError("a message for later is for another run")
    names = [new + each.removeprefix(old) for each in (stream, channel)]
    return [field, pack([*names, *rest])]


def _field(item: Item, old: bytes, new: bytes) -> Item:
    """`{run}:room:TYPE` or `heard:{run}:room:TYPE`."""
    field, value = item
    for before in (b"", b"heard:"):
        if field.startswith(before + old):
            return [before + new + field.removeprefix(before + old), value]
    return item


def _letter(item: Item, old: bytes, new: bytes) -> Item:
    """A dead letter, whose history names the stream to which it would go back."""
    if item[1] != b"history":
        return item
    try:
        history = orjson.loads(item[2])
        stream = history["stream"].encode()
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return item
    if not stream.startswith(old):
        return item
    history["stream"] = (new + stream.removeprefix(old)).decode()
    return [item[0], item[1], orjson.dumps(history), *item[3:]]


# Of MessagePack, what the commit script writes: an array of strings.


def pack(texts: list[bytes]) -> bytes:
    """An array of strings."""
    return b"\xdd" + struct.pack(">I", len(texts)) + b"".join(map(_packed, texts))


def _packed(text: bytes) -> bytes:
    return b"\xdb" + struct.pack(">I", len(text)) + text


def unpack(data: bytes) -> list[bytes]:
    """The strings of an array. Raises FormatError where it is anything else."""
    count, at = _length(data, 0, 0x90, 0x0F, {0xDC: ">H", 0xDD: ">I"})
    texts = []
    for _ in range(count):
        size, at = _length(data, at, 0xA0, 0x1F, {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"})
        if at + size > len(data):
            raise FormatError("a message for later is cut off")
        texts.append(data[at : at + size])
        at += size
    if at != len(data) or count < 6:
        raise FormatError("a message for later is none")
    return texts


def _length(data: bytes, at: int, short: int, mask: int, long: dict[int, str]) -> tuple[int, int]:
    """How long what begins here is, and where that begins."""
    kind = data[at] if at < len(data) else 0
    if kind & ~mask & 0xFF == short:
        return kind & mask, at + 1
    layout = long.get(kind)
    end = at + 1 + (struct.calcsize(layout) if layout else 0)
    if layout is None or end > len(data):
        raise FormatError("a message for later is no list of texts")
    return int(struct.unpack(layout, data[at + 1 : end])[0]), end
