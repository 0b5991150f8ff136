"""The commands of the trebuchet: `roomgrad shoot`."""

from __future__ import annotations

import os
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
    # The server's address is no flag, as it may hold a password.
    os.environ.update(variables.exported(redis_url=redis))
    from roomgrad_trebuchet.inference.__main__ import answer  # type: ignore[import-untyped]

    answer([*flags, *context.args])
