"""`roomgrad gateway`: lets swergio clients take part in a run."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from roomgrad.cli import options as typed
from roomgrad.cli import service


def gateway(
    context: typer.Context,
    port: Annotated[str, Option(help="Where swergio clients connect (8080).")] = "",
    run: Annotated[str, Option(help="Name of the run that they take part in.")] = "",
    redis: typed.Redis = "",
) -> int:
    return service.serve("gateway", {"port": port, "run": run}, context.args, redis)
