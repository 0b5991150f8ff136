"""`roomgrad echo`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.errors import DecodeError
from roomgrad.inspect import format
from roomgrad.inspect.tail import Seen, Tail

# Of the envelope the heading says it, or it is of no interest beside the message.
LEFT_OUT = frozenset({"v", "ID", "ROOT_ID", "TYPE", "TO_ROOM", "SENT_BY", "MODEL_STATUS"})


def run(
    room: str,
    type_: str,
    last: int,
    count: int,
    run: str,
    redis_url: str,
    *,
    full: bool,
    as_json: bool,
) -> None:
    """Show what comes, until Ctrl+C, or until nobody reads any more."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        room = target.room(client, names, room)
        tail = Tail(client, names, room, type_, last=last, say=warn)
        try:
            for seen in first(tail, count):
                show(seen, full=full, as_json=as_json)
        except KeyboardInterrupt:
            return
        except BrokenPipeError:  # | head has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(text: str) -> None:
    """What happens meanwhile is no part of the output."""
    print(f"roomgrad: {text}", file=sys.stderr, flush=True)


def first(tail: Iterable[Seen | None], count: int) -> Iterator[Seen]:
    """So many messages, or all for ever."""
    number = 0
    for seen in tail:
        if seen is not None:
            yield seen
            number += 1
            if number == count:
                return


def show(seen: Seen, *, full: bool, as_json: bool) -> None:
    """One message."""
    if as_json:
        tables.say_json(as_object(seen, full=full))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(heading(seen), "bold"))
    for name, text in lines(seen, full=full):
        console.print(Text(f"  {name}  {text}"))


def heading(seen: Seen) -> str:
    """Which message it is."""
    try:
        body = seen.body()
    except DecodeError:
        body = {}
    parts = [seen.entry, seen.room, seen.type, body.get("SENT_BY", "")]
    if body.get("MODEL_STATUS") == 2:
        parts.append("validate")
    parts.append(f"root {body['ROOT_ID']}" if "ROOT_ID" in body else "")
    return format.printable("  ".join(str(part) for part in parts if part))


def lines(seen: Seen, *, full: bool) -> Iterator[tuple[str, str]]:
    """Name and text of each field."""
    try:
        body = seen.body()
    except DecodeError as error:
        yield "unreadable", format.printable(str(error))
        yield from format.lines(seen.pairs)
        return
    for name, value in body.items():
        if full or name not in LEFT_OUT:
            yield format.printable(name), text_of(value, full=full)


def text_of(value: Any, *, full: bool) -> str:
    """A value as a person reads it."""
    if isinstance(value, np.ndarray):
        return whole(value) if full else format.described(value)
    return format.json_text(value)


def whole(array: np.ndarray[Any, Any]) -> str:
    """All of an array."""
    numbers = np.array2string(array, threshold=sys.maxsize, separator=", ", max_line_width=10**9)
    return f"{array.dtype.str} {array.shape}: {' '.join(numbers.split())}"


def as_object(seen: Seen, *, full: bool) -> dict[str, Any]:
    """A message as one object: the envelope and the fields, beside where it stands."""
    where = {"entry": seen.entry, "room": seen.room, "type": seen.type}
    try:
        body = seen.body()
    except DecodeError as error:
        return {**where, "unreadable": str(error), "fields": dict(format.lines(seen.pairs))}
    return {**where, **{name: _plain(value, full=full) for name, value in body.items()}}


def _plain(value: Any, *, full: bool) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if full:
        return value.tolist()
    first = value.flatten()[: format.VALUES].tolist()
    return {"dtype": value.dtype.str, "shape": value.shape, "first": first}
