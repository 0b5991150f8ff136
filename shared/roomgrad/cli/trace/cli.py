"""The command `roomgrad trace`."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from roomgrad.cli import options as typed


def trace(
    root: Annotated[
        str,
        Argument(
            help="The ROOT_ID; the newest root that is finished if empty.", metavar="[ROOT_ID]"
        ),
    ] = "",
    run: Annotated[str, Option(help="Name of the run; the only one there is if empty.")] = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Show the way of one root: who had each message, for how long, and where it is now."""
    from roomgrad.cli.trace import report

    report.run(root, run, redis, as_json=bool(as_json))
