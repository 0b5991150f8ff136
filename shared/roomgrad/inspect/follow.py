"""Follow a room: yield its messages as they come, without a group, so that no component notices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad import codec
from roomgrad.errors import DecodeError
from roomgrad.inspect.entries import MessageHeader, read_headers
from roomgrad.inspect.keys import entry_id, parse_stream_key, stream_keys
from roomgrad.inspect.scripts import ReadScript
from roomgrad.names import Names
from roomgrad.redis.streams import START, newest_entry, read_after

BLOCK_S = 0.5
SEARCH_S = 2.0  # between two searches for TYPEs that are new in the room
RETRY_S = 0.25

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """A whole entry of a stream."""

    entry: str
    room: str
    type: str
    pairs: list[tuple[bytes, bytes]]

    def body(self) -> dict[str, Any]:
        """Return its message: the envelope and the fields, arrays as arrays. Raises DecodeError."""
        raw = dict(self.pairs)
        if b"m" not in raw:
            raise DecodeError("it has no field m with the message as JSON")
        body = codec.parse_body(raw[b"m"])
        values = {name: _value(name, value, raw) for name, value in body.items()}
        seed = codec.seed_in(body, raw)
        return values if seed is None else values | {"SEED": seed}


def _value(name: str, value: Any, raw: dict[bytes, bytes]) -> Any:
    spec = value.get("$array") if isinstance(value, dict) else None
    if not isinstance(spec, dict):
        return value
    buffer = raw.get(str(spec.get("field", name)).encode())
    if buffer is None:
        raise DecodeError(f"{name}: the field with its bytes is missing")
    return codec.array_from(name, spec, buffer)


def follow(
    client: redis.Redis, names: Names, room: str, type_: str = "", *, last: int = 0, warn: Warn
) -> Iterator[Entry | None]:
    """Yield each new message of a room; None now and then while there is none.

    Goes on when the server was away. type_: only this TYPE. last: begin with so many older ones.
    warn: is told when the server goes away and when it is back.
    """
    positions = _Positions(client, names, lambda each: each[0] == room and type_ in ("", each[1]))
    yield from positions.newest(last)
    while True:
        found = _patiently(positions, positions.read, warn)
        yield from found or [None]


def follow_headers(
    client: redis.Redis, names: Names, rooms: Callable[[str], bool], every_s: float, warn: Warn
) -> Iterator[tuple[float, list[MessageHeader]]]:
    """Yield every so many seconds how long that was, and the headers of what came meanwhile.

    Skips the time during which the server is away. rooms: whether a room is followed.
    """
    positions = _Positions(client, names, lambda each: rooms(each[0]))
    began = time.monotonic()
    while True:
        time.sleep(every_s)
        was_away = positions.away
        found = _patiently(positions, positions.read_headers, warn)
        now = time.monotonic()
        if found is not None and not was_away:
            yield now - began, found
        began = now


def _patiently(positions: _Positions, read: Callable[[], Any], warn: Warn) -> Any:
    """Return what a read finds, or None if the server is away."""
    try:
        found = read()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        if not positions.away:
            warn(f"the server is away ({error}); waiting for it")
        positions.away = True
        time.sleep(RETRY_S)
        return None
    if positions.away:
        positions.away = False
        warn("the server is back")
    return found


class _Positions:
    """The last entry that was read of each stream."""

    def __init__(
        self, client: redis.Redis, names: Names, wanted: Callable[[tuple[str, str]], bool]
    ) -> None:
        """wanted: whether a stream is followed, by its room and TYPE."""
        self.away = False
        self._client: Any = client
        self._names = names
        self._wanted = wanted
        self._headers = ReadScript(client, "headers")
        self._searched = 0.0
        self._read: dict[str, str] = {}  # by key
        self._search(lambda key: newest_entry(client, key))

    def newest(self, count: int) -> list[Entry]:
        """Return the newest messages before the positions, the oldest first."""
        found = [
            self._entry(key, entry.decode(), pairs)
            for key, at in self._read.items()
            if count and at != START
            for entry, pairs in self._client.xrevrange(key, max=at, count=count)
        ]
        return sorted(found, key=lambda each: entry_id(each.entry))[-count:]

    def read(self) -> list[Entry]:
        """Return what is new; wait for it for half a second."""
        self._refresh()
        if not self._read:
            time.sleep(BLOCK_S)
            return []
        found = [self._entry(*each) for each in read_after(self._client, self._read, BLOCK_S)]
        return sorted(found, key=lambda each: entry_id(each.entry))

    def read_headers(self) -> list[MessageHeader]:
        """Return the headers of what is new."""
        self._refresh()
        found: list[MessageHeader] = []
        for key, at in self._read.items():
            new = read_headers(self._headers, key, parse_stream_key(self._names, key), f"({at}")
            self._read[key] = new[-1].entry if new else at
            found += new
        return sorted(found, key=lambda each: each.order)

    def _refresh(self) -> None:
        if self.away:  # a server that was emptied counts from its clock again, which may be behind
            for key, at in self._read.items():
                if entry_id(newest_entry(self._client, key)) < entry_id(at):
                    self._read[key] = START
        if time.monotonic() - self._searched > SEARCH_S:
            self._search(lambda _: START)

    def _search(self, position: Callable[[str], str]) -> None:
        """Find the streams of the rooms. Those that appear later are read from their beginning."""
        self._searched = time.monotonic()
        for key in stream_keys(self._client, self._names):
            if key not in self._read and self._wanted(parse_stream_key(self._names, key)):
                self._read[key] = position(key)

    def _entry(self, key: str, entry: str, pairs: dict[bytes, bytes]) -> Entry:
        return Entry(entry, *parse_stream_key(self._names, key), list(pairs.items()))
