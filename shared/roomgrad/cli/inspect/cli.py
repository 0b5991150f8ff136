"""The commands that look into a run, as typer sees them."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed

Run = Annotated[str, Option(help="Name of the run; the only one there is if empty.")]
Component = Annotated[str, Argument(help="The component, like simulator.", metavar="COMPONENT")]
Room = Annotated[str, Argument(help="The room, like input.", metavar="ROOM")]
Seconds = Annotated[float, Option(help="Over how long rates are measured.", min=0.01, max=3600)]

PANEL = "Look inside"


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    for command in (ps, rooms, info, lag, memory, model, top):
        app.command(rich_help_panel=PANEL)(command)


def ps(run: Run = "", redis: typed.Redis = "", as_json: typed.AsJson = False) -> None:
    """Show the replicas: which live, since when, what they hold, which weights they have."""
    from roomgrad.cli.inspect import replicas

    replicas.run(run, redis, as_json=bool(as_json))


def rooms(
    run: Run = "",
    redis: typed.Redis = "",
    seconds: Seconds = 1.0,
    as_json: typed.AsJson = False,
) -> None:
    """Show the rooms: members, messages a second, what waits, what is open, what is dead."""
    from roomgrad.cli.inspect import rooms

    rooms.listing(run, redis, seconds, as_json=bool(as_json))


def info(room: Room, run: Run = "", redis: typed.Redis = "", as_json: typed.AsJson = False) -> None:
    """Show one room: what it carries, who sends and who listens, and its newest messages."""
    from roomgrad.cli.inspect import rooms

    rooms.info(room, run, redis, as_json=bool(as_json))


def lag(run: Run = "", redis: typed.Redis = "", as_json: typed.AsJson = False) -> None:
    """Show who is behind: messages that wait for each component, and that it has in hand."""
    from roomgrad.cli.inspect import lag

    lag.run(run, redis, as_json=bool(as_json))


def memory(
    component: Component,
    root: Annotated[
        str, Argument(help="A ROOT_ID or message ID: one record whole.", metavar="[ID]")
    ] = "",
    run: Run = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Show what a component remembers of the roots that are open."""
    from roomgrad.cli.inspect import memory

    memory.run(component, root, run, redis, as_json=bool(as_json))


def model(
    component: Component,
    export: Annotated[
        str,
        Option("--export", help="Write the weights into this file.", metavar="FILE"),
    ] = "",
    import_: Annotated[
        str, Option("--import", help="Go on with the weights of this file.", metavar="FILE")
    ] = "",
    run: Run = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Show a component's model, write its weights into a file, or take others from one."""
    from roomgrad.cli.inspect import model

    model.run(component, export, import_, run, redis, as_json=bool(as_json))


def top(
    run: Run = "",
    redis: typed.Redis = "",
    seconds: Seconds = 1.0,
    once: Annotated[bool, Option("--once", help="Print one table, and end.")] = False,
    as_json: typed.AsJson = False,
) -> None:
    """Watch a run live: components, rooms, rates, and how the training goes."""
    from roomgrad.cli.inspect import top

    top.run(run, redis, seconds, once=once, as_json=bool(as_json))
