"""`roomgrad dashboard`: a page that shows the runs of a server, live."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import service


def dashboard(
    context: typer.Context,
    port: Annotated[str, Option(help="Port of the page (8322, or the next free one).")] = "",
    run: Annotated[str, Option(help="The run that is shown first; any if empty.")] = "",
    redis: typed.Redis = "",
) -> int:
    return service.serve("dashboard", {"port": port, "run": run}, context.args, redis)
