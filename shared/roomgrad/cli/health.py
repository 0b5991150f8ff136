"""`roomgrad health`: whether a component's replica on this host works."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli import output
from roomgrad.cli.target import run_of
from roomgrad.runtime.health import check


def health(
    component: Annotated[str, Argument(help="The component, like trainer.")],
    run: typed.Run = "",
    redis: typed.Redis = "",
    handler_timeout_s: Annotated[
        float,
        Option(
            envvar=["ROOMGRAD_HANDLER_TIMEOUT_S", "HANDLER_TIMEOUT_S"],
            help="How long a handler may take.",
        ),
    ] = 600.0,
    patient: Annotated[
        bool, Option("--patient", help="Also succeed while no server answers.")
    ] = False,
) -> None:
    name = run_of(component, run, redis)
    output.say(check(component, name, redis, handler_timeout_s, patient=patient))
