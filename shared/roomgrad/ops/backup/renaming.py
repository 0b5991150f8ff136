"""Values that contain the name of their run, rewritten when a backup is restored as another run.

Names of keys and channels occur in delayed messages, in the history of dead letters, in positions
of `everyone` replicas, and in the gateway's hash. All other values name rooms and components only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgpack
import orjson

from roomgrad.errors import FormatError
from roomgrad.names import GATEWAY
from roomgrad.ops.backup.records import Item, KeyHeader

_DELAYED = re.compile(rb"later:[^:]+:bodies")
_COUNT = b"count"


def renamed(header: KeyHeader, items: Iterator[Item], old: bytes, new: bytes) -> Iterator[Item]:
    """Return the items of a key with the prefix `new` in place of `old` in all names of keys.

    Raises FormatError for a delayed message that would be sent to a third run.
    """
    change = _change_for(header)
    return (change(item, old, new) for item in items) if change else items


def _change_for(header: KeyHeader) -> Callable[[Item, bytes, bytes], Item] | None:
    kind, key = header.kind, header.key
    if kind == "hash" and _DELAYED.fullmatch(key):
        return _delayed
    if kind == "hash" and (key.startswith(b"position:") or key == GATEWAY.encode()):
        return _field
    if kind == "stream" and key == b"dead":
        return _dead_letter
    return None


def _delayed(item: Item, old: bytes, new: bytes) -> Item:
    """Rename stream and channel of a delayed message, which the server sends without a check."""
    field, value = item
    if field == _COUNT:
        return item
    stream, channel, *rest = _unpacked(value)
    if not (stream.startswith(old) and channel.startswith(old)):
        raise FormatError("a delayed message is for another run")
    names = [new + each.removeprefix(old) for each in (stream, channel)]
    return [field, msgpack.packb([*names, *rest], use_bin_type=False)]


def _unpacked(value: bytes) -> list[bytes]:
    """Return [stream, channel, ...] as commit.lua packed it. Raises FormatError."""
    try:
        found = msgpack.unpackb(value, raw=True)
    except (ValueError, TypeError) as error:
        raise FormatError(f"a delayed message is not MessagePack ({error})") from error
    if not isinstance(found, list) or len(found) < 6 or {type(each) for each in found} != {bytes}:
        raise FormatError("a delayed message is not a list of texts")
    return found


def _field(item: Item, old: bytes, new: bytes) -> Item:
    """Rename a field `{run}:room:TYPE` or `heard:{run}:room:TYPE`."""
    field, value = item
    for before in (b"", b"heard:"):
        if field.startswith(before + old):
            return [before + new + field.removeprefix(before + old), value]
    return item


def _dead_letter(item: Item, old: bytes, new: bytes) -> Item:
    """Rename the stream in the history of a dead letter, into which it may be requeued."""
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
