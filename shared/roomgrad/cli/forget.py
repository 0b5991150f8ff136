"""`roomgrad forget`: remove a component from a run for good."""

from __future__ import annotations

from typing import Annotated

import redis
from typer import Argument

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.errors import SettingsError
from roomgrad.inspect import snapshot
from roomgrad.local.plan import hint
from roomgrad.names import GATEWAY, Names, is_client_group
from roomgrad.redis import heartbeats, registry
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
        system = registry.system_of_run(client, names)
        streams = snapshot.take(client, names).streams
        groups = [(group.name, each.room, each.type) for each in streams for group in each.groups]
        known = registry.components_of(client, names) | set(system.components if system else ())
        known |= {name for name, *_ in groups if not is_client_group(name)}
        if component not in known:
            raise SettingsError(
                f"run {names.run} has no component {component!r}: {hint(component, sorted(known))}"
            )
        its = [(room, type_) for name, room, type_ in groups if name == component]
        removed = runs.forget(client, system, names, component, its)
        model = _delete_model(client, names, component)
    output.say(f"{component} is forgotten in run {names.run}: {removed} groups removed.{model}")


def _delete_model(client: redis.Redis, names: Names, component: str) -> str:
    """Delete the model of a component, and return what was done, to be printed."""
    if not client.exists(names.model(component)):
        return ""
    if heartbeats.living(client, names)[component]:
        return " Its model stays, since it is running."
    for reason in runs.delete_model(client, names, component):
        output.warn(f"a snapshot was not deleted: {reason}")
    return " Its model is deleted."
