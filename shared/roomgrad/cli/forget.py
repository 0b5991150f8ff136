"""`roomgrad forget`: remove a component from a run for good."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.errors import SettingsError
from roomgrad.local.plan import hint
from roomgrad.names import GATEWAY
from roomgrad.redis.registry import system_of_run
from roomgrad.runtime import runs


def forget(
    component: Annotated[str, Argument(help="The component that will not come back.")],
    run: typed.Run = "",
    redis: typed.Redis = "",
) -> None:
    if component == GATEWAY:
        raise SettingsError(
            f"{GATEWAY} is a component of no system, and no message waits for it: its flag "
            "--wait-s says for how long messages wait for its clients"
        )
    name = target.run_of(component, run, redis)
    with target.opened(name, redis) as (client, names, _):
        system = system_of_run(client, names)
        known = list(system.components) if system else []
        if system is None or component not in known:
            raise SettingsError(
                f"run {names.run} has no component {component!r}: {hint(component, known)}"
            )
        removed = runs.forget(client, system, names, component)
    output.say(f"{component} is forgotten in run {names.run}: {removed} groups removed.")
