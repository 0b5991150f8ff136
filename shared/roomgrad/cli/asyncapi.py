"""`roomgrad asyncapi`: a system as an AsyncAPI document."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from roomgrad.cli import options as typed


def asyncapi(
    system: Annotated[
        str, Argument(help="A system by its contract alone; a run if empty.", metavar="[SYSTEM]")
    ] = "",
    run: Annotated[str, Option(help="Name of the run; the only one there is if empty.")] = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    """Print the rooms of a running system, and who sends and receives, as AsyncAPI 3.0 (YAML)."""
    import json

    from roomgrad.cli import target
    from roomgrad.errors import SettingsError
    from roomgrad.inspect.asyncapi import as_yaml, document
    from roomgrad.local.plan import find_system
    from roomgrad.names import Names
    from roomgrad.redis import registry

    if system:
        found = document(find_system(system), Names(run or system), {})
    else:
        with target.reached(redis) as (client, _):
            names = target.chosen(client, run)
            contract = registry.system_of_run(client, names)
            declared = registry.declared_in(client, names)
        if contract is None:
            raise SettingsError(
                f"nobody has said what the rooms of run {names.run} carry: start one of its "
                f"components"
            )
        found = document(contract, names, declared)
    print(json.dumps(found) if as_json else as_yaml(found), end="\n" if as_json else "")
