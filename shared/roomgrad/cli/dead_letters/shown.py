"""`roomgrad dead list` and `show`."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roomgrad.cli import target
from roomgrad.inspect import format
from roomgrad.inspect.dead_letters import Letter, Letters
from roomgrad.local.plan import find_system

WIDE = 160  # columns where the output is no terminal and has no width of its own
ROOT_GONE = "its root was given up, so it will usually come back as a stray reply"


def listing(
    system: str, run: str, redis_url: str, component: str, reason: str, limit: int, *, as_json: bool
) -> None:
    """Show the newest letters of a run, the newest last."""
    system = find_system(system).name if system else ""  # said before a server is looked for
    with target.reached(redis_url) as (client, _):
        letters = Letters(client, target.chosen(client, run, system))
        total = letters.count()
        found = list(islice(letters.newest_first(reason, component), limit))[::-1]
    if as_json:
        rows = [_row(letter) for letter in found]
        print(json.dumps({"run": letters.names.run, "total": total, "letters": rows}))
        return
    console = Console(highlight=False)
    if found:
        console.print(_table(found), width=None if console.is_terminal else WIDE)
    console.print(Text(counted(letters.names.run, total, len(found), bool(component or reason))))


def counted(run: str, total: int, found: int, filtered: bool) -> str:
    """How many there are in all."""
    if not total:
        return f"Run {run} has no dead letters."
    several = f"{total} dead letter{'s' if total > 1 else ''}"
    if not found:
        return f"None of the {several} of run {run} is like that."
    left_out = " that are like that" if filtered else ""
    of = "" if found == total else f"; shown are the newest {found}{left_out}"
    return f"Run {run} has {several}{of}. `roomgrad dead show ENTRY --run {run}` shows one whole."


def _row(letter: Letter) -> dict[str, Any]:
    room, type_ = letter.place
    return {
        "entry": letter.entry,
        "when": letter.when,
        "component": letter.component,
        "room": room,
        "type": type_,
        "deliveries": letter.deliveries,
        "reason": letter.reason,
        "root_given_up": letter.root_given_up,
        "ID": letter.own(b"ID"),
        "ROOT_ID": letter.own(b"ROOT_ID"),
        "bytes": letter.size,
    }


def _table(found: list[Letter]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("entry", "when", "component", "room and type", "tries"):
        table.add_column(name, no_wrap=name != "room and type")
    table.add_column("reason", overflow="ellipsis", no_wrap=True)
    for letter in found:
        place = " ".join(letter.place).strip()
        times = "" if letter.deliveries is None else str(letter.deliveries)
        cells = [letter.entry, letter.when, letter.component, place, times, letter.reason]
        table.add_row(*(Text(format.printable(cell)) for cell in cells))
    return table


def letter(entry: str, run: str, redis_url: str) -> None:
    """Show everything of one letter."""
    with target.reached(redis_url) as (client, _):
        letters = Letters(client, target.chosen(client, run))
        found = letters.get(entry)
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in [("letter", entry), ("given up", found.when), ("bytes", f"{found.size:,}")]:
        table.add_row(name, text)
    for name, value in list(found.history.items())[: format.FIELDS]:
        text = format.printable(value) if isinstance(value, str) else format.json_text(value)
        table.add_row(Text(format.printable(name)), Text(text))
    table.add_row()
    for name, text in format.lines(found.pairs):
        table.add_row(Text(name), Text(text))
    console.print(table, width=None if console.is_terminal else WIDE)
    console.print(Text("\n" + _advice(letters, found)))


def _advice(letters: Letters, found: Letter) -> str:
    which = f"{found.entry} --run {letters.names.run}"
    drop = f"`roomgrad dead drop {which}` deletes it."
    if obstacle := letters.obstacle(found):
        return f"It cannot be put back: {obstacle}. {drop}"
    note = f" {ROOT_GONE.capitalize()}." if found.root_given_up else ""
    return (
        f"Once {found.component} can handle it, `roomgrad dead requeue {which}` puts it back."
        f"{note}\n{drop}"
    )
