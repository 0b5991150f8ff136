"""What comes into a room, live: read without a group, so that it is nothing to the system."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad import codec
from roomgrad.errors import DecodeError
from roomgrad.inspect.entries import entry_id
from roomgrad.inspect.streams import keys_of, place
from roomgrad.names import Names

BLOCK_MS = 500
COUNT = 200
SEARCH_S = 2.0  # between two looks for TYPEs that are new in the room
RETRY_S = 0.25


@dataclass(frozen=True)
class Seen:
    """An entry of a stream, as it stands there."""

    entry: str
    room: str
    type: str
    pairs: list[tuple[bytes, bytes]]

    @property
    def at_ms(self) -> int:
        """When it came, by the server's clock, in ms of Unix time."""
        return int(self.entry.partition("-")[0])

    @property
    def size(self) -> int:
        """Bytes of all its fields."""
        return sum(len(name) + len(value) for name, value in self.pairs)

    def body(self) -> dict[str, Any]:
        """Its message: the envelope and the fields, arrays as arrays. Raises DecodeError."""
        raw = dict(self.pairs)
        if b"m" not in raw:
            raise DecodeError("it has no field m with the message as JSON")
        body = codec.parse_body(raw[b"m"])
        return {name: _value(name, value, raw) for name, value in body.items()}


def _value(name: str, value: Any, raw: dict[bytes, bytes]) -> Any:
    spec = value.get("$array") if isinstance(value, dict) else None
    if not isinstance(spec, dict):
        return value
    buffer = raw.get(str(spec.get("field", name)).encode())
    if buffer is None:
        raise DecodeError(f"{name}: the field with its bytes is missing")
    return codec.array_from(name, spec, buffer)


class Tail:
    """The messages of a room, from now on or from its last ones; outlives a server that is away."""

    def __init__(
        self,
        client: redis.Redis,
        names: Names,
        room: str,
        type_: str = "",
        *,
        last: int = 0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """type_: only this TYPE. last: begins so many messages back. say: what it is told."""
        self._client: Any = client
        self._names = names
        self._room = room
        self._type = type_
        self._say = say
        self._searched = 0.0
        self._away = False
        self._at: dict[str, str] = {}  # by key: the last entry that was read
        self._first: list[Seen] = []
        self._search(begin=True)
        if last:
            self._go_back(last)

    def __iter__(self) -> Iterator[Seen | None]:
        """Each message when it comes; None now and then while none does, so that one can stop."""
        yield from self._first
        self._first = []
        while True:
            try:
                found = self._read()
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if not self._away:
                    self._say(f"the server is away ({error}); waiting for it")
                self._away = True
                time.sleep(RETRY_S)
                yield None
                continue
            yield from found
            if not found:
                yield None

    def _read(self) -> list[Seen]:
        if self._away:
            self._come_back()
        if time.monotonic() - self._searched > SEARCH_S:
            self._search()
        if not self._at:
            time.sleep(BLOCK_MS / 1000)
            return []
        answer = self._client.xread(self._at, count=COUNT, block=BLOCK_MS)
        found = []
        for key, entries in answer:
            name = key.decode()
            self._at[name] = entries[-1][0].decode()
            found += [self._seen(name, *each) for each in entries]
        return sorted(found, key=lambda each: entry_id(each.entry))

    def _seen(self, key: str, entry: bytes, pairs: dict[bytes, bytes]) -> Seen:
        room, type_ = place(self._names, key)
        return Seen(entry.decode(), room, type_, list(pairs.items()))

    def _search(self, *, begin: bool = False) -> None:
        """Finds the streams of the room. What is new since the beginning is read from its start."""
        self._searched = time.monotonic()
        for key in keys_of(self._client, self._names):
            room, type_ = place(self._names, key)
            if room == self._room and self._type in ("", type_) and key not in self._at:
                self._at[key] = self._newest(key) if begin else "0-0"

    def _newest(self, key: str) -> str:
        newest = self._client.xrevrange(key, count=1)
        return newest[0][0].decode() if newest else "0-0"

    def _come_back(self) -> None:
        """A server that was emptied counts from its own clock again, which may be behind."""
        for key, at in self._at.items():
            if entry_id(self._newest(key)) < entry_id(at):
                self._at[key] = "0-0"
        self._away = False
        self._say("the server is back")

    def _go_back(self, count: int) -> None:
        found = []
        for key, at in self._at.items():
            entries = self._client.xrevrange(key, max=at, count=count) if at != "0-0" else []
            found += [self._seen(key, *each) for each in entries]
        self._first = sorted(found, key=lambda each: entry_id(each.entry))[-count:]
