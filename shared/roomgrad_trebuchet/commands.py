"""The commands of the trebuchet: `roomgrad shoot`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from typer import Option

from roomgrad import variables
from roomgrad.cli import options as typed

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def shoot(
    context: typer.Context,
    wind: Annotated[str, Option(help="Wind in m/s.")] = "",
    target: Annotated[str, Option(help="Distance of the target in m.")] = "",
    csv: Annotated[str, Option(help="File with the columns wind and target.")] = "",
    redis: typed.Redis = "",
    run: typed.Run = "",
    as_json: typed.AsJson = False,
) -> None:
    """Ask the running trebuchet how to hit a target, and where that shot lands."""
    given = {"wind": wind, "target": target, "csv": csv, "run": run}
    flags = [f"--{name}={value}" for name, value in given.items() if value]
    flags += ["--json"] if as_json else []
    # The program replaces this process, so that its exit code becomes the command's.
    command = [sys.executable, "-m", "roomgrad_trebuchet.inference", *flags, *context.args]
    # The server's address is no flag, as it may hold a password.
    environ = {**os.environ, **variables.exported(redis_url=redis)}
    os.execve(sys.executable, command, environ)
