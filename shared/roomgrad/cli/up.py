"""`roomgrad up SYSTEM` or `roomgrad up swarm.yaml`: serve a run in the background."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

from roomgrad.cli import hints, launch, output
from roomgrad.cli import options as typed
from roomgrad.errors import RoomgradError
from roomgrad.local import supervisor
from roomgrad.local.plan import SWARM_FILES, Plan, find_system, with_gateway
from roomgrad.redis.server import configured_address
from roomgrad.redis.server_address import AnyAddress
from roomgrad.systems import SWARM, installed, load


@dataclass(frozen=True)
class AnyUp(launch.AnySystem):
    """`roomgrad up` of a system that declares no options of its own."""

    def where_to_look(self, plan: Plan, url: AnyAddress, began: float) -> list[str]:
        """Return commands for a run of any system."""
        return hints.where_to_look(plan)


def command_of(name: str) -> Any:
    """Return the command `roomgrad up NAME`, of a system or a swarm file. Raises SettingsError."""
    about = f"Serve {name} in the background until `roomgrad down {name}`."
    if name.endswith(SWARM_FILES):
        return launch.command(name, up_here, load(SWARM), about, file=name)
    plugin = installed()[find_system(name).name]
    if plugin.up:
        return launch.command(name, up_here, load(plugin.up), about)
    return launch.command(name, up_here, AnyUp, about, system=name)


def up_here(
    asked: launch.UpOptions,
    gateway: typed.Gateway = None,
    replicas: typed.ReplicasOrNone = None,
    redis: typed.Redis = "",
    run: typed.Run = "",
    fresh: typed.Fresh = False,
) -> None:
    """Start a supervisor that serves the run; print what to do next."""
    plan = with_gateway(asked.plan(run, replicas or [], 0), gateway or 0)
    started, state = supervisor.up(plan, redis, fresh=fresh)
    if started:
        output.say(f"{plan.run} is up: {state['server']}, process {state['pid']}.")
    else:
        output.say(f"{plan.run} is up already (process {state['pid']}); nothing was changed.")
    if "url" in state:
        served = Plan(**state["plan"])
        if not started:
            _say_differences(asked, plan, served)
        address = configured_address(redis) or state["url"]  # the state holds no password
        lines = asked.where_to_look(served, address, state["began"])
        output.say(*lines, *hints.where_to_connect(served))


def _say_differences(asked: launch.UpOptions, plan: Plan, served: Plan) -> None:
    """Say which of the given options a run that is up already does not have."""
    usual = plan
    with suppress(RoomgradError):  # a swarm file may name programs that are not there
        usual = replace(asked, **_defaults(asked)).plan(plan.run, [], 0)  # type: ignore[type-var]
    if differs := list(plan.differences(served, usual)):
        output.say(
            f"It runs with {', '.join(differs)}: `roomgrad down --run {plan.run}` stops it, so "
            f"that it can be started in another way."
        )


def _defaults(asked: Any) -> dict[str, Any]:
    """Return the default of each option."""
    return {each.name: each.default for each in fields(asked) if each.default is not MISSING}
