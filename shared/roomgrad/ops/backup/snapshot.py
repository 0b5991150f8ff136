"""One moment of a run: everything of it as it stood together.

What is long, the entries of streams, is read before. One transaction reads the rest, so that it
takes the server milliseconds. Keys and groups of which nobody knew when it was written down, and
entries that were deleted in the middle of a stream, show in its answers; then it is done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from roomgrad.errors import ServerError, format_value
from roomgrad.names import Names
from roomgrad.ops.backup.archive import line
from roomgrad.ops.backup.connection import plain
from roomgrad.ops.backup.prefetch import Ahead
from roomgrad.ops.backup.records import ALIVE, KINDS, RESTORING, Extent, Group, Head, text

TRIES = 50
ALL = 10**9  # pending entries
_GONE = ("no such key", "NOGROUP")
BEYOND = f"{2**64 - 1}-{2**64 - 1}"  # no entry of an empty stream is to be kept


@dataclass(frozen=True)
class Kept:
    """A key as it stood: what the server answered, and of a stream what had been read before."""

    head: Head
    answer: list[Any]
    ahead: Ahead | None = None
    first: str = BEYOND

    def lines(self) -> Iterator[bytes]:
        """Its items, as the archive has them."""
        if self.ahead is not None:
            yield from self.ahead.lines(self.first)
            yield from map(line, self.answer)
        elif self.head.kind == "string":
            yield line([text(self.answer[0])])
        else:
            flat = iter(self.answer)
            for name, value in zip(flat, flat, strict=True):
                yield line([text(name), text(value)])


@dataclass(frozen=True)
class Moment:
    """What stood together."""

    at_ms: int
    seconds: float  # that the transaction took, its answers under way included
    keys: list[Kept]


class Camera:
    """Takes the moment of one run. Raises ServerError where the run never holds still."""

    def __init__(self, client: redis.Redis, names: Names, folder: Path, stack: ExitStack) -> None:
        self._client = plain(client)
        self._prefix, self._pattern = names.prefix().encode(), names.everything()
        self._folder, self._stack = folder, stack
        self._kinds: dict[bytes, str] = {}
        self._groups: dict[bytes, set[bytes]] = {}
        self._ahead: dict[bytes, Ahead] = {}
        self._moved = False  # since what is known was written down

    def take(self) -> Moment:
        """Tries until everything fits together."""
        keys: Any = self._client.keys(self._pattern)
        self._learn(keys)
        for ahead in self._ahead.values():  # which takes long, and more comes meanwhile
            ahead.catch_up(self._client)
        for _ in range(TRIES):
            for ahead in self._ahead.values():
                ahead.catch_up(self._client)
            if (found := self._try()) is not None:
                return found
        raise ServerError(
            f"the run did not hold still for one of {TRIES} moments: somebody deletes entries or "
            f"makes keys all the time; try again"
        )

    def _learn(self, keys: Iterable[bytes]) -> bool:
        """Takes note of new keys; whether there were any."""
        passing = (self._prefix + ALIVE, self._prefix + RESTORING)
        new = [key for key in keys if not key.startswith(passing) and key not in self._kinds]
        with self._client.pipeline(transaction=False) as together:
            for key in new:
                together.type(key)
            kinds: list[bytes] = together.execute()
        for key, kind in zip(new, (each.decode() for each in kinds), strict=True):
            if kind == "none":
                continue
            if kind not in KINDS:
                raise ServerError(
                    f"the key {format_value(key.decode(errors='replace'))} is a {kind}, "
                    f"and no run has "
                    f"one: delete it or give it another name, and try again"
                )
            self._kinds[key] = kind
            if kind == "stream":
                self._ahead[key] = Ahead(key, self._folder)
                self._stack.callback(self._ahead[key].close)
                self._groups[key] = set()
        return bool(new)

    def _try(self) -> Moment | None:
        """The moment; None where there was something that was not known before."""
        began = time.monotonic()
        asked = dict(self._kinds)
        with self._client.pipeline(transaction=True) as together:
            together.keys(self._pattern)
            together.time()
            for key, kind in asked.items():
                self._ask(together, key, kind)
            answers = iter(together.execute(raise_on_error=False))
        seconds = time.monotonic() - began
        keys, (second, microsecond) = _good(next(answers)), _good(next(answers))
        at_ms = int(second) * 1000 + int(microsecond) // 1000
        self._moved = self._learn(keys)
        kept = [self._kept(key, kind, answers, at_ms) for key, kind in asked.items()]
        return None if self._moved else Moment(at_ms, seconds, [each for each in kept if each])

    def _ask(self, together: Any, key: bytes, kind: str) -> None:
        together.pexpiretime(key)
        if kind == "hash":
            together.hgetall(key)
        elif kind == "zset":
            together.zrange(key, 0, -1, withscores=True)
        elif kind == "string":
            together.get(key)
        else:
            together.xinfo_stream(key)
            together.xinfo_groups(key)
            together.xrange(key, f"({self._ahead[key].newest}")
            for group in self._groups[key]:
                together.xpending_range(key, group, "-", "+", ALL)

    def _kept(self, key: bytes, kind: str, answers: Iterator[Any], at_ms: int) -> Kept | None:
        """What was answered for one key; None where it is not there any more."""
        name, expires = key.removeprefix(self._prefix), int(_good(next(answers)))
        expires_ms = expires if expires > 0 else None
        if kind == "stream":
            return self._stream(key, name, expires_ms, answers, at_ms)
        answer = self._same_kind(key, next(answers))
        if answer is None or answer == []:
            return None
        if kind == "string":
            return Kept(Head(name, kind, 1, expires_ms), [answer])
        return Kept(Head(name, kind, len(answer) // 2, expires_ms), answer)

    def _stream(
        self, key: bytes, name: bytes, expires_ms: int | None, answers: Iterator[Any], at_ms: int
    ) -> Kept | None:
        about = self._same_kind(key, next(answers))
        infos, tail = self._same_kind(key, next(answers)), self._same_kind(key, next(answers))
        asked = {group: self._same_kind(key, next(answers)) or [] for group in self._groups[key]}
        if about is None:
            return None
        groups = [_pairs(each) for each in infos or []]
        names: set[bytes] = {each["name"] for each in groups}
        if not names <= asked.keys():
            self._groups[key] = names
            self._moved = True
            return None
        stream, ahead = _pairs(about), self._ahead[key]
        ahead.add(tail or [])
        first = stream["first-entry"][0].decode() if stream["first-entry"] else BEYOND
        length = int(stream["length"])
        if ahead.count(first) != length:  # somebody deleted entries in the middle
            ahead.begin_again()
            self._moved = True
            return None
        pending = [
            [entry.decode(), text(consumer), max(0, at_ms - int(idle)), int(times)]
            for each in groups
            for entry, consumer, idle, times in asked[each["name"]]
        ]
        extent = Extent(
            stream["last-generated-id"].decode(),
            int(stream["entries-added"]),
            stream["max-deleted-entry-id"].decode(),
            tuple(_group(each, len(asked[each["name"]])) for each in groups),
        )
        head = Head(name, "stream", length + len(pending), expires_ms, extent)
        return Kept(head, pending, ahead, first)

    def _same_kind(self, key: bytes, answer: Any) -> Any:
        """The answer; None where the key is gone, or another one has its name."""
        if isinstance(answer, redis.ResponseError):
            if str(answer).startswith("WRONGTYPE"):
                self._kinds.pop(key, None)
                self._moved = True
            elif not any(word in str(answer) for word in _GONE):
                raise answer
            return None
        return answer


def _group(about: dict[str, Any], pending: int) -> Group:
    read = about["entries-read"]
    last = about["last-delivered-id"].decode()
    return Group(about["name"], last, None if read is None else int(read), pending)


def _pairs(flat: list[Any]) -> dict[str, Any]:
    names = iter(flat)
    return {name.decode(): value for name, value in zip(names, names, strict=True)}


def _good(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer
