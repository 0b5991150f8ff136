"""The commands `roomgrad dead ...`: what was given up, and what becomes of it."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed

dead = typer.Typer(
    name="dead", help="Dead letters: what was given up, and why.", no_args_is_help=True
)

Entries = Annotated[
    list[str] | None,
    Argument(metavar="ENTRY...", help="Entry ids of letters.", show_default=False),
]
All = Annotated[bool, Option("--all", help="All dead letters of the run.")]
Component = Annotated[str, Option(metavar="NAME", help="Those that this component gave up.")]
Reason = Annotated[str, Option(metavar="TEXT", help="Those whose reason holds this text.")]


@dead.command("list")
def list_letters(
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
    """Show what was given up, the newest last."""
    from roomgrad.cli.dead_letters import shown

    shown.listing(system, run, redis, component, reason, limit, as_json=bool(as_json))


@dead.command("show")
def show_letter(
    entry: Annotated[str, Argument(help="The entry id of a letter.", metavar="ENTRY")],
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Show all of one letter, and what to do with it."""
    from roomgrad.cli.dead_letters import shown

    shown.letter(entry, run, redis)


@dead.command("requeue")
def requeue_letters(
    entries: Entries = None,
    all_: All = False,
    component: Component = "",
    reason: Reason = "",
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Put messages back into their streams, for the component that gave them up; each once."""
    from roomgrad.cli.dead_letters import work

    work.requeue(work.Choice(entries or [], all_, component, reason), run, redis)


@dead.command("drop")
def drop_letters(
    entries: Entries = None,
    all_: All = False,
    component: Component = "",
    reason: Reason = "",
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    """Delete letters for good."""
    from roomgrad.cli.dead_letters import work

    work.drop(work.Choice(entries or [], all_, component, reason), run, redis, yes=yes)
