"""`roomgrad dead ...`: list, show, requeue and delete dead letters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.errors import NotRequeued, SettingsError
from roomgrad.inspect import format
from roomgrad.inspect.dead_letters import DeadLetter, DeadLetters
from roomgrad.local.plan import find_system
from roomgrad.redis import registry

dead = typer.Typer(no_args_is_help=True, add_completion=False)
ROOT_GONE = "its root was given up, so it will usually come back as a stray reply"

Entries = Annotated[
    list[str] | None,
    Argument(metavar="ENTRY...", help="Entry IDs of dead letters.", show_default=False),
]
All = Annotated[bool, Option("--all", help="All dead letters of the run.")]
Component = Annotated[str, Option(metavar="NAME", help="Those that this component gave up.")]
Reason = Annotated[str, Option(metavar="TEXT", help="Those whose reason contains this text.")]


@dead.command("list")
def list_(
    system: Annotated[
        str, Argument(help="The system; the only run there is if empty.", metavar="[SYSTEM]")
    ] = "",
    run: typed.Run = "",
    component: Component = "",
    reason: Reason = "",
    limit: Annotated[int, typed.number("--limit", 1, 10**6, "The newest so many.")] = 20,
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """List what was given up, the newest last."""
    system = find_system(system).name if system else ""  # an error before a server is searched
    with target.opened(run, redis, system) as (client, names, _):
        letters = DeadLetters(client, names)
        total = letters.count()
        found = list(islice(letters.newest_first(reason, component), limit))[::-1]
    name = letters.names.run
    if as_json:
        rows = [_to_json(letter) for letter in found]
        output.print_json({"run": name, "total": total, "letters": rows})
        return
    if found:
        output.console().print(_table(found))
    print(_summary(name, total, len(found), filtered=bool(component or reason)))


def _summary(run: str, total: int, found: int, *, filtered: bool) -> str:
    if not total:
        return f"Run {run} has no dead letters."
    several = _count(total)
    if not found:
        return f"None of the {several} of run {run} match."
    matching = " that match" if filtered else ""
    of = "" if found == total else f"; these are the newest {found}{matching}"
    return f"Run {run} has {several}{of}. `roomgrad dead show ENTRY --run {run}` shows one whole."


def _count(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _to_json(letter: DeadLetter) -> dict[str, Any]:
    room, type_ = letter.stream_key
    return {
        "entry": letter.entry,
        "when": letter.when,
        "component": letter.component,
        "room": room,
        "type": type_,
        "deliveries": letter.deliveries,
        "reason": letter.reason,
        "root_given_up": letter.root_given_up,
        "ID": letter.message_field(b"ID"),
        "ROOT_ID": letter.message_field(b"ROOT_ID"),
        "bytes": letter.size,
    }


def _table(found: Sequence[DeadLetter]) -> Table:
    rows = [
        (
            letter.entry,
            letter.when,
            letter.component,
            " ".join(letter.stream_key).strip(),
            "" if letter.deliveries is None else letter.deliveries,
            letter.reason,
        )
        for letter in found
    ]
    columns = ("entry", "when", "component", "<room and type", "deliveries", "reason")
    return output.table(columns, rows)


@dead.command()
def show(
    entry: Annotated[str, Argument(help="The entry ID of a dead letter.", metavar="ENTRY")],
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Show one dead letter whole, and what to do with it."""
    with target.opened(run, redis) as (client, names, _):
        letters = DeadLetters(client, names)
        found = letters.get(entry)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in [("entry", entry), ("given up", found.when), ("bytes", f"{found.size:,}")]:
        table.add_row(name, text)
    for name, value in list(found.history.items())[: format.FIELDS]:
        text = format.printable(value) if isinstance(value, str) else format.format_json(value)
        table.add_row(Text(format.printable(name)), Text(text))
    table.add_row()
    for name, text in format.format_fields(found.pairs):
        table.add_row(Text(name), Text(text))
    console = output.console()
    console.print(table)
    console.print(Text("\n" + _advice(letters, found)))


def _advice(letters: DeadLetters, letter: DeadLetter) -> str:
    which = f"{letter.entry} --run {letters.names.run}"
    drop = f"`roomgrad dead drop {which}` deletes it."
    if obstacle := letters.obstacle(letter):
        return f"It cannot be requeued: {obstacle}. {drop}"
    note = f" {ROOT_GONE.capitalize()}." if letter.root_given_up else ""
    return (
        f"Once {letter.component} can handle it, `roomgrad dead requeue {which}` puts it back."
        f"{note}\n{drop}"
    )


@dataclass(frozen=True)
class _Choice:
    """The dead letters that a command is for: some, all, or those that match."""

    entries: Sequence[str]
    all: bool
    component: str
    reason: str

    def check(self, command: str) -> None:
        """Raise SettingsError unless they are chosen in exactly one way."""
        ways = sum([bool(self.entries), self.all, bool(self.component or self.reason)])
        if ways != 1:
            raise SettingsError(
                f"which dead letters? roomgrad dead {command} takes one of these: entry IDs, or "
                f"--all, or --component and --reason; `roomgrad dead list` lists them"
            )

    def ids(self, letters: DeadLetters) -> list[str]:
        """Return their entry IDs, the oldest first. Raises what `DeadLetters.get` raises."""
        if self.entries:
            return list(dict.fromkeys(letters.get(entry).entry for entry in self.entries))
        found = letters.newest_first(self.reason, self.component)
        return [letter.entry for letter in found][::-1]


@dead.command()
def requeue(
    entries: Entries = None,
    all_: All = False,
    component: Component = "",
    reason: Reason = "",
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Put messages back into their streams, for the component that gave them up; each once."""
    choice = _Choice(entries or [], all_, component, reason)
    choice.check("requeue")
    with target.opened(run, redis) as (client, names, _):
        letters = DeadLetters(client, names, registry.system_of_run(client, names))
        ids = choice.ids(letters)
        done = [_requeue(letters, entry) for entry in ids]
    print(f"{done.count(1)} of {_count(len(ids))} of run {names.run} were requeued.")
    if None in done:
        raise typer.Exit(1)


def _requeue(letters: DeadLetters, entry: str) -> int | None:
    """Return 1 if it was requeued, 0 if it did not exist any more, None if it has to stay."""
    letter = letters.find(entry)
    try:
        new = letters.requeue(letter) if letter else ""
    except NotRequeued as error:
        output.warn(str(error))
        return None
    if letter is None or not new:
        print(f"{entry} does not exist any more: it was requeued or deleted meanwhile.")
        return 0
    note = f"; {ROOT_GONE}" if letter.root_given_up else ""
    print(f"{letter.entry} is {new} of {letter.stream} for {letter.component}{note}.")
    return 1


@dead.command()
def drop(
    entries: Entries = None,
    all_: All = False,
    component: Component = "",
    reason: Reason = "",
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Delete dead letters for good."""
    choice = _Choice(entries or [], all_, component, reason)
    choice.check("drop")
    if not yes and not sys.stdin.isatty():
        raise SettingsError("roomgrad dead drop asks first, and no terminal can answer: add --yes")
    with target.opened(run, redis) as (client, names, _):
        letters = DeadLetters(client, names)
        ids = choice.ids(letters)
        of_run = f"of run {letters.names.run}"
        if ids and not yes:
            typer.confirm(f"Delete {_count(len(ids))} {of_run} for good?", abort=True)
        dropped = letters.drop(ids)
    print(f"{_count(dropped)} {of_run} {'is' if dropped == 1 else 'are'} deleted.")
