"""`roomgrad asyncapi`: a system as an AsyncAPI document."""

from __future__ import annotations

from typing import Annotated

from typer import Argument

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.inspect.asyncapi import as_yaml, document
from roomgrad.local.plan import find_system
from roomgrad.names import Names
from roomgrad.redis import registry


def asyncapi(
    system: Annotated[
        str, Argument(help="A system by its contract alone; a run if empty.", metavar="[SYSTEM]")
    ] = "",
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    if system:
        found = document(find_system(system), Names(run or system), {})
    else:
        with target.opened(run, redis) as (client, names, _):
            contract = target.contract_of(client, names)
            found = document(contract, names, registry.declared_in(client, names))
    if as_json:
        output.print_json(found)
    else:
        output.say(*as_yaml(found).splitlines())
