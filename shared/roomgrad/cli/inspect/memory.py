"""`roomgrad memory`."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from roomgrad import codec
from roomgrad.cli import tables, target
from roomgrad.errors import DecodeError, RoomgradError
from roomgrad.inspect import format

MOST = 50  # records that a listing shows


def run(component: str, root: str, run: str, redis_url: str, *, as_json: bool) -> None:
    """Show the records of a component, or one of them."""
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        key = names.memory(target.component(client, names, component))
        total = int(client.hlen(key))
        if root:
            one: Any = client.hget(key, root)
            records = {} if one is None else {root: one}
        else:
            some = client.hscan_iter(key, count=MOST)
            records = {name.decode(errors="replace"): v for name, v in islice(some, MOST)}
    if root and not records:
        raise RoomgradError(
            f"{component} remembers nothing of {root!r}: it is done, or was never there; "
            f"`roomgrad trace {root} --run {names.run}` looks for its messages"
        )
    fields = {name: record(value) for name, value in sorted(records.items())}
    if as_json:
        tables.say_json(
            {"run": names.run, "component": component, "total": total, "records": fields}
        )
        return
    console = tables.console()
    console.print(_table(fields))
    count = f"{total:,} record{'' if total == 1 else 's'}"
    console.print(Text(f"{component} of run {names.run} remembers {count}."))


def record(value: bytes) -> dict[str, str]:
    """The fields of a record as people read them."""
    try:
        found = codec.unpack(value)
    except DecodeError as error:
        return {"unreadable": f"{error}: {format.escaped(value)}"}
    return {name: _field(each) for name, each in found.items()}


def _field(value: Any) -> str:
    return format.described(value) if isinstance(value, np.ndarray) else format.json_text(value)


def _table(records: dict[str, dict[str, str]]) -> Table:
    rows = [
        (name if not at else "", field, text)
        for name, fields in records.items()
        for at, (field, text) in enumerate(fields.items())
    ]
    return tables.table(("record", "field", "<value"), rows)
