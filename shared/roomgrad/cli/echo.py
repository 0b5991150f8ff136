"""`roomgrad echo`: the messages of a room as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.cli.draft import STATUS
from roomgrad.dtypes import name_of
from roomgrad.errors import DecodeError
from roomgrad.inspect.follow import Entry, follow
from roomgrad.inspect.format import VALUES, format_array, format_fields, format_json

# Names of the envelope that the heading contains, or that only programs need.
LEFT_OUT = frozenset({"v", "ID", "ROOT_ID", "TYPE", "TO_ROOM", "SENT_BY", "MODEL_STATUS", "SEED"})

_STATUS: dict[Any, str] = {
    number: name for name, number in STATUS.items() if number != STATUS["train"]
}


def echo(
    room: typed.Room,
    type_: typed.Type = "",
    last: Annotated[int, Option(help="Begin with the last so many.", min=0, max=100_000)] = 0,
    count: Annotated[int, Option(help="End after so many messages; 0: never.", min=0)] = 0,
    full: typed.Full = False,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with target.opened(run, redis) as (client, names, _):
        room = target.choose_room(client, names, room)
        entries = filter(None, follow(client, names, room, type_, last=last, warn=output.warn))
        with output.until_reader_leaves():
            for number, entry in enumerate(entries, 1):
                print_entry(entry, full=full, as_json=bool(as_json))
                if number == count:
                    return


def print_entry(entry: Entry, *, full: bool, as_json: bool) -> None:
    """Print one message."""
    if as_json:
        output.print_json(to_json(entry, full=full))
        return
    output.say(_heading(entry), style="bold")
    output.say(*(f"  {name}  {text}" for name, text in _lines(entry, full=full)))


def _heading(entry: Entry) -> str:
    try:
        body = entry.body()
    except DecodeError:
        body = {}
    parts = [entry.entry, entry.room, entry.type, body.get("SENT_BY", "")]
    parts.append(_STATUS.get(body.get("MODEL_STATUS"), ""))
    parts.append(f"root {body['ROOT_ID']}" if "ROOT_ID" in body else "")
    return "  ".join(str(part) for part in parts if part)


def _lines(entry: Entry, *, full: bool) -> Iterator[tuple[str, str]]:
    """Yield name and text of each field."""
    try:
        body = entry.body()
    except DecodeError as error:
        yield "unreadable", str(error)
        yield from format_fields(entry.pairs)
        return
    for name, value in body.items():
        if full or name not in LEFT_OUT:
            yield name, _text(value, full=full)


def _text(value: Any, *, full: bool) -> str:
    if not isinstance(value, np.ndarray):
        return format_json(value)
    if not full:
        return format_array(value)
    numbers = np.array2string(value, threshold=sys.maxsize, separator=", ", max_line_width=10**9)
    return f"{name_of(value.dtype)} {value.shape}: {' '.join(numbers.split())}"


def to_json(entry: Entry, *, full: bool) -> dict[str, Any]:
    """Return a message as one object: its entry, envelope and fields."""
    where = {"entry": entry.entry, "room": entry.room, "type": entry.type}
    try:
        body = entry.body()
    except DecodeError as error:
        return {**where, "unreadable": str(error), "fields": dict(format_fields(entry.pairs))}
    return {**where, **{name: _plain(value, full=full) for name, value in body.items()}}


def _plain(value: Any, *, full: bool) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if full:
        return value.tolist()
    first = value.flatten()[:VALUES].tolist()
    return {"dtype": name_of(value.dtype), "shape": value.shape, "first": first}
