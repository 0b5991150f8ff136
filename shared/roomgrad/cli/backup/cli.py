"""The commands that put a run into a file and back, as typer sees them."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Argument, Option

from roomgrad.cli import options as typed

PANEL = "Keep"


def register(app: typer.Typer) -> None:
    """Adds the commands to the program."""
    for command in (backup, restore):
        app.command(rich_help_panel=PANEL)(command)


def backup(
    file: Annotated[str, Argument(help="The file to write.", metavar="FILE")],
    run: Annotated[str, Option(help="Name of the run; the only one there is if empty.")] = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Put all of a run into a file: labels, models, populations, and what is under way."""
    from roomgrad.cli.backup import report

    report.backup(file, run, redis, as_json=bool(as_json))


def restore(
    file: Annotated[str, Argument(help="A file that backup wrote.", metavar="FILE")],
    run: Annotated[str, Option(help="Name of the run; as it was named if empty.")] = "",
    redis: typed.Redis = "",
    fresh: typed.Fresh = False,
    as_json: typed.AsJson = False,
) -> None:
    """Put the run of a file onto a server, where it goes on as if nothing had been."""
    from roomgrad.cli.backup import report

    report.restore(file, run, redis, fresh=fresh, as_json=bool(as_json))
