"""`roomgrad memory`: what a component remembers of open roots."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import numpy as np
from typer import Argument

from roomgrad import codec
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.errors import DecodeError, RoomgradError
from roomgrad.inspect.format import escape_bytes, format_array, format_json

MOST = 50  # records of a listing


def memory(
    component: typed.Component,
    root: Annotated[
        str, Argument(help="A ROOT_ID or message ID: one record whole.", metavar="[ID]")
    ] = "",
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    with target.opened(run, redis) as (client, names, _):
        key = names.memory(target.choose_component(client, names, component))
        total = int(client.hlen(key))
        records = _records(client, key, root)
    if root and not records:
        raise RoomgradError(
            f"{component} remembers nothing of {root!r}: it is done, or never existed; "
            f"`roomgrad trace {root} --run {names.run}` searches its messages"
        )
    fields = {name: _fields(value) for name, value in sorted(records.items())}
    if as_json:
        found = {"run": names.run, "component": component, "total": total, "records": fields}
        output.print_json(found)
        return
    rows = [
        (name if not at else "", field, text)
        for name, texts in fields.items()
        for at, (field, text) in enumerate(texts.items())
    ]
    output.print_table(("record", "field", "<value"), rows)
    count = f"{total:,} record{'' if total == 1 else 's'}"
    output.say(f"{component} of run {names.run} remembers {count}.")


def _records(client: Any, key: str, root: str) -> dict[str, bytes]:
    """Return one record, or some of them."""
    if root:
        one = client.hget(key, root)
        return {} if one is None else {root: one}
    some = client.hscan_iter(key, count=MOST)
    return {name.decode(errors="replace"): value for name, value in islice(some, MOST)}


def _fields(record: bytes) -> dict[str, str]:
    """Return the fields of a record as text."""
    try:
        found = codec.unpack(record)
    except DecodeError as error:
        return {"unreadable": f"{error}: {escape_bytes(record)}"}
    return {
        name: format_array(value) if isinstance(value, np.ndarray) else format_json(value)
        for name, value in found.items()
    }
