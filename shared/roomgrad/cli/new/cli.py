"""The command `roomgrad new`."""

from __future__ import annotations

from typing import Annotated

from typer import Argument


def new(
    name: Annotated[str, Argument(help="Name of the system, and of its folder.", metavar="NAME")],
) -> None:
    """Make a folder with a small system of your own, which runs and learns at once."""
    from roomgrad.cli.new import folder

    folder.make(name)
