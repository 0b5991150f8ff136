"""`roomgrad hz`, `bw` and `delay`: rates of a room, measured without reading its arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect.entries import MessageHeader
from roomgrad.inspect.follow import follow_headers
from roomgrad.names import ERRORS, LOGGING

KEPT = 20_000  # messages whose reply, and so their delay, is still awaited

Numbers = dict[str, float | int | None]
Measure = Callable[[Sequence["MessageHeader"], float], Numbers]


def _command(measure: Callable[[str, str], Measure], about: str, name: str) -> Callable[..., None]:
    """Return a command that prints a line of numbers every so many seconds."""

    def command(
        room: typed.Room,
        type_: typed.Type = "",
        every: Annotated[float, Option(help="Seconds between two lines.", min=0.1, max=3600)] = 1.0,
        count: Annotated[
            int, Option("--count", help="End after so many lines; 0: never.", min=0)
        ] = 0,
        run: typed.AnyRun = "",
        redis: typed.Redis = "",
        as_json: typed.AsJson = False,
    ) -> None:
        with target.opened(run, redis) as (client, names, _):
            room = target.choose_room(client, names, room)
            numbers_of = measure(room, type_)

            def wanted(other: str) -> bool:  # a reply comes in another room
                return other == room or (name == "delay" and other not in (ERRORS, LOGGING))

            intervals = follow_headers(client, names, wanted, every, output.warn)
            with output.until_reader_leaves():
                for number, (seconds, headers) in enumerate(intervals, 1):
                    numbers = numbers_of(headers, seconds)
                    if as_json:
                        output.print_json({"room": room, "seconds": round(seconds, 3), **numbers})
                    else:
                        output.say(TEXTS[name](numbers))
                    if number == count:
                        return

    command.__name__, command.__doc__ = name, about
    return command


def _of_room(headers: Sequence[MessageHeader], room: str, type_: str) -> list[MessageHeader]:
    return [e for e in headers if e.stream_key[0] == room and type_ in ("", e.stream_key[1])]


@dataclass
class Rate:
    """Messages per second, and the intervals in ms between them by their senders' clocks."""

    room: str
    type: str
    last_us: int | None = None

    def __call__(self, headers: Sequence[MessageHeader], seconds: float) -> Numbers:
        """Return the numbers of what came in so many seconds."""
        times = [each.at_us for each in _of_room(headers, self.room, self.type)]
        known = times if self.last_us is None else [self.last_us, *times]
        gaps = np.diff(np.sort(np.array(known))) / 1000
        self.last_us = max(times, default=self.last_us)
        return {"messages": len(times), "rate": round(len(times) / seconds, 2), **_spread(gaps)}


@dataclass(frozen=True)
class Bandwidth:
    """Bytes per second, and bytes per message."""

    room: str
    type: str

    def __call__(self, headers: Sequence[MessageHeader], seconds: float) -> Numbers:
        """Return the numbers of what came in so many seconds."""
        found = _of_room(headers, self.room, self.type)
        sizes = np.array([each.size for each in found], dtype=float)
        rate = round(int(sizes.sum()) / seconds, 1)
        return {"messages": len(sizes), "rate": rate, **_spread(sizes)}


@dataclass(frozen=True)
class Delay:
    """How long messages waited for a handler, in ms, by the times in their replies."""

    room: str
    type: str
    waiting: dict[tuple[str, str], MessageHeader] = field(default_factory=dict)

    def __call__(self, headers: Sequence[MessageHeader], seconds: float) -> Numbers:
        """Return the numbers of what came in so many seconds."""
        for each in _of_room(headers, self.room, self.type):
            self.waiting[each.entry, each.root_id] = each
        while len(self.waiting) > KEPT:
            del self.waiting[next(iter(self.waiting))]
        waits, handled = [], []
        for reply in headers:
            times = reply.times
            asked = self.waiting.pop((times.answers, reply.root_id), None) if times else None
            if times and asked:
                waits.append((times.delivered - asked.at_us) / 1000)
                handled.append((times.ended - times.began) / 1000)
        mean = round(float(np.mean(handled)), 3) if handled else None
        spread = _spread(np.maximum(0.0, np.array(waits)))
        return {"messages": len(waits), **spread, "handler": mean}


def _spread(values: Any) -> Numbers:
    """Return mean, extremes and standard deviation; None if there are no values."""
    if not len(values):
        return {"mean": None, "min": None, "max": None, "std": None}
    numbers = {"mean": values.mean(), "min": values.min(), "max": values.max(), "std": values.std()}
    return {name: round(float(value), 3) for name, value in numbers.items()}


def _times(numbers: Numbers, what: str) -> str:
    if numbers["mean"] is None:
        return ""
    mean, low, high, std = (numbers[name] for name in ("mean", "min", "max", "std"))
    return f"   {what} {mean:.3f} ms, {low:.3f} to {high:.3f}, deviation {std:.3f}"


def _hz(numbers: Numbers) -> str:
    return f"{numbers['rate']:10,.1f} messages/s{_times(numbers, 'every')}"


def _bw(numbers: Numbers) -> str:
    line = f"{output.format_size(numbers['rate'] or 0):>12}/s   {numbers['messages']:,} messages"
    if numbers["mean"] is None:
        return line
    mean, low, high = (output.format_size(numbers[name] or 0) for name in ("mean", "min", "max"))
    return f"{line} of {mean}, {low} to {high}"


def _delay(numbers: Numbers) -> str:
    line = f"{numbers['messages']:10,} messages{_times(numbers, 'waited')}"
    handler = numbers["handler"]
    return line if handler is None else f"{line}; handled in {handler:.3f} ms"


TEXTS: dict[str, Callable[[Numbers], str]] = {"hz": _hz, "bw": _bw, "delay": _delay}

hz = _command(
    Rate, "Measure how many messages per second come into a room, and how regularly.", "hz"
)
bw = _command(
    Bandwidth, "Measure how many bytes per second come into a room, and the size of each.", "bw"
)
delay = _command(
    Delay,
    "Measure how long messages of a room wait for their handler, and how long it takes.",
    "delay",
)
