"""`roomgrad dead ...`: list, show, requeue and delete dead letters; give up roots."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.errors import NotRequeued, SettingsError
from roomgrad.inspect import format
from roomgrad.inspect.dead_letters import DeadLetter, DeadLetters
from roomgrad.inspect.doctor.run import STILL_S
from roomgrad.inspect.lost import find as find_lost
from roomgrad.local.plan import find_system
from roomgrad.ops.give_up import give_up
from roomgrad.redis import registry

dead = typer.Typer(no_args_is_help=True, add_completion=False)
COLUMNS = ("entry", "?when", "component", "?<room and type", "?deliveries", "<reason")
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
        output.print_table(COLUMNS, map(_row, found))
    output.say(_summary(name, total, len(found), filtered=bool(component or reason)))


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


def _row(letter: DeadLetter) -> tuple[object, ...]:
    stream = " ".join(letter.stream_key).strip()
    deliveries = "" if letter.deliveries is None else letter.deliveries
    return letter.entry, letter.when, letter.component, stream, deliveries, letter.reason


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
    output.print_fields(_fields(found))
    output.say("", *_advice(letters, found))


def _fields(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    """Yield name and text of all that is known of a dead letter: its history, then the message."""
    yield "entry", letter.entry
    yield "given up", letter.when
    yield "bytes", f"{letter.size:,}"
    for name, value in list(letter.history.items())[: format.FIELDS]:
        if name == "at" and isinstance(value, float | int):
            yield name, format.format_time(value * 1e6)
        else:
            yield name, value if isinstance(value, str) else format.format_json(value)
    yield "", ""
    yield from format.format_fields(letter.pairs)


def _advice(letters: DeadLetters, letter: DeadLetter) -> list[str]:
    which = f"{letter.entry} --run {letters.names.run}"
    drop = f"`roomgrad dead drop {which}` deletes it."
    if obstacle := letters.obstacle(letter):
        return [f"It cannot be requeued: {obstacle}. {drop}"]
    note = f" {ROOT_GONE.capitalize()}." if letter.root_given_up else ""
    requeue = f"`roomgrad dead requeue {which}` puts it back"
    return [f"Once {letter.component} can handle it, {requeue}.{note}", drop]


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
    output.say(f"{done.count(1)} of {_count(len(ids))} of run {names.run} were requeued.")
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
        output.say(f"{entry} does not exist any more: it was requeued or deleted meanwhile.")
        return 0
    note = f"; {ROOT_GONE}" if letter.root_given_up else ""
    output.say(f"{letter.entry} is {new} of {letter.stream} for {letter.component}{note}.")
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
    output.say(f"{_count(dropped)} {of_run} {'is' if dropped == 1 else 'are'} deleted.")


@dead.command("give-up")
def give_up_(
    roots: Annotated[
        list[str] | None,
        Argument(metavar="[ROOT_ID]...", help="Open roots.", show_default=False),
    ] = None,
    lost: Annotated[
        bool, Option("--lost", help="The roots that `roomgrad doctor` calls lost.")
    ] = False,
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Give up open roots: components forget them, and the one that opened them goes on."""
    if bool(roots) == lost:
        raise SettingsError("which roots? roomgrad dead give-up takes ROOT_IDs, or --lost")
    with target.opened(run, redis) as (client, names, _):
        system = target.contract_of(client, names)
        if lost:
            found = find_lost(client, names, system.components, STILL_S).roots
            roots = [each.root_id for each in found]
        give_up(client, names, system, roots or [])
    count = len(roots or [])
    said = "1 root is" if count == 1 else f"{count} roots are"
    output.say(f"{said} given up in run {names.run}.")
