"""`roomgrad hz`, `bw` and `delay`: how a room moves, measured without reading its arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import redis
from rich.console import Console
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.cli.messages.echo import warn
from roomgrad.inspect import entries
from roomgrad.inspect.entries import Sent
from roomgrad.inspect.scripts import ReadScript
from roomgrad.inspect.streams import keys_of, place
from roomgrad.names import ERRORS, LOGGING, Names

KEPT = 20_000  # messages that wait to be answered, so that their delay is known

Numbers = dict[str, float | int | None]


def run(
    measure: str,
    room: str,
    type_: str,
    every: float,
    count: int,
    run: str,
    redis_url: str,
    *,
    as_json: bool,
) -> None:
    """Show a line each so many seconds, until Ctrl+C."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        room = target.room(client, names, room)
        heads = Heads(client, names, "" if measure == "delay" else room)
        heads.new()  # from now on
        counted = MEASURES[measure](room, type_)
        console, lines = Console(highlight=False, soft_wrap=True), 0
        try:
            for seconds, found in _looks(heads, every):
                numbers = counted(found, seconds)
                if as_json:
                    tables.say_json({"room": room, "seconds": round(seconds, 3), **numbers})
                else:
                    console.print(Text(TEXTS[measure](numbers)))
                lines += 1
                if lines == count:
                    return
        except KeyboardInterrupt:
            return


def _looks(heads: Heads, every: float) -> Iterator[tuple[float, list[Sent]]]:
    """What came in each so many seconds. While the server is away, nothing."""
    began, away = time.monotonic(), False
    while True:
        time.sleep(every)
        try:
            found = heads.new()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if not away:
                warn(f"the server is away ({error}); waiting for it")
            away = True
            continue
        now = time.monotonic()
        if not away:
            yield now - began, found
        began, away = now, False


class Heads:
    """New messages of one room, or of all, without their arrays."""

    def __init__(self, client: redis.Redis, names: Names, room: str) -> None:
        self._client: Any = client
        self._names = names
        self._read = ReadScript(client, "headers")
        keys = {key: place(names, key) for key in keys_of(client, names)}
        self._places = {
            key: at
            for key, at in keys.items()
            if at[0] == room or (not room and at[0] not in (ERRORS, LOGGING))
        }
        self._at: dict[str, str] = {}

    def new(self) -> list[Sent]:
        """What came since the last look; the first look finds nothing."""
        found: list[Sent] = []
        for key, at in self._places.items():
            if key not in self._at:
                newest = self._client.xrevrange(key, count=1)
                self._at[key] = newest[0][0].decode() if newest else "0-0"
                continue
            new = entries.messages(self._read, key, at, f"({self._at[key]}")
            if new:
                self._at[key] = new[-1].entry
            found += new
        return sorted(found, key=lambda each: each.order)


# what is made of it


def _of(found: Sequence[Sent], room: str, type_: str) -> list[Sent]:
    return [each for each in found if each.place[0] == room and type_ in ("", each.place[1])]


@dataclass
class Rate:
    """Messages a second, and the times between them in ms, by their senders' clocks."""

    room: str
    type: str
    last_us: int | None = None

    def __call__(self, found: Sequence[Sent], seconds: float) -> Numbers:
        times = [each.at_us for each in _of(found, self.room, self.type)]
        known = times if self.last_us is None else [self.last_us, *times]
        gaps = np.diff(np.sort(np.array(known))) / 1000
        self.last_us = max(times, default=self.last_us)
        return {"messages": len(times), "rate": round(len(times) / seconds, 2), **_spread(gaps)}


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a second, and bytes of a message."""

    room: str
    type: str

    def __call__(self, found: Sequence[Sent], seconds: float) -> Numbers:
        sizes = np.array([each.size for each in _of(found, self.room, self.type)], dtype=float)
        total = int(sizes.sum())
        return {"messages": len(sizes), "rate": round(total / seconds, 1), **_spread(sizes)}


class Delay:
    """How long messages waited for a handler, in ms, by what was written into their replies."""

    def __init__(self, room: str, type_: str) -> None:
        self._room, self._type = room, type_
        self._waiting: dict[tuple[str, str], Sent] = {}

    def __call__(self, found: Sequence[Sent], seconds: float) -> Numbers:
        for each in _of(found, self._room, self._type):
            self._waiting[each.entry, each.root_id] = each
        while len(self._waiting) > KEPT:
            del self._waiting[next(iter(self._waiting))]
        waits, handled = [], []
        for reply in found:
            times = reply.times
            if times is None:
                continue
            asked = self._waiting.pop((times.answers, reply.root_id), None)
            if asked is not None:
                waits.append((times.delivered - asked.at_us) / 1000)
                handled.append((times.ended - times.began) / 1000)
        took = round(float(np.mean(handled)), 3) if handled else None
        spread = _spread(np.maximum(0.0, np.array(waits)))
        return {"messages": len(waits), **spread, "handler": took}


def _spread(values: np.ndarray[Any, Any]) -> Numbers:
    """Mean, extremes and deviation; None where there is nothing."""
    if not len(values):
        return {"mean": None, "min": None, "max": None, "std": None}
    numbers = {"mean": values.mean(), "min": values.min(), "max": values.max(), "std": values.std()}
    return {name: round(float(value), 3) for name, value in numbers.items()}


MEASURES: dict[str, Callable[[str, str], Callable[[Sequence[Sent], float], Numbers]]] = {
    "hz": Rate,
    "bw": Bandwidth,
    "delay": Delay,
}


def _times(numbers: Numbers, what: str) -> str:
    if numbers["mean"] is None:
        return ""
    mean, low, high, std = (numbers[name] for name in ("mean", "min", "max", "std"))
    return f"   {what} {mean:.3f} ms, {low:.3f} to {high:.3f}, deviation {std:.3f}"


def _hz(numbers: Numbers) -> str:
    return f"{numbers['rate']:10,.1f} messages/s{_times(numbers, 'every')}"


def _bw(numbers: Numbers) -> str:
    line = f"{tables.size(numbers['rate'] or 0):>12}/s   {numbers['messages']:,} messages"
    if numbers["mean"] is None:
        return line
    low, high = (tables.size(numbers[name] or 0) for name in ("min", "max"))
    return f"{line} of {tables.size(numbers['mean'])}, {low} to {high}"


def _delay(numbers: Numbers) -> str:
    line = f"{numbers['messages']:10,} messages{_times(numbers, 'waited')}"
    handler = numbers["handler"]
    return line if handler is None else f"{line}; handled in {handler:.3f} ms"


TEXTS: dict[str, Callable[[Numbers], str]] = {"hz": _hz, "bw": _bw, "delay": _delay}
