"""`roomgrad acl`: a Redis user for each component, with the rights that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from importlib import import_module
from typing import Annotated

from typer import Argument, Option

from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.component import Component
from roomgrad.ensembles import ensembles
from roomgrad.local.plan import find_system
from roomgrad.names import GATEWAY, Names
from roomgrad.ops import acl as access
from roomgrad.ops.acl import Grants
from roomgrad.redis import registry
from roomgrad.redis.users import GUEST
from roomgrad.rooms import System
from roomgrad.schema import Declaration
from roomgrad.systems import Plugin, installed, load

Served = tuple[System, Names, Mapping[str, Declaration]]

ABOUT = """\
# Redis users, one for each component, with the rights that it needs and no others, as printed by
# `roomgrad acl`. It contains no passwords: a user without one cannot connect.
"""


def acl(
    system: Annotated[str, Argument(help="An installed system.", metavar="[SYSTEM]")] = "",
    run: Annotated[
        str, Option(help="Name of the run; without SYSTEM, one that its components have served.")
    ] = "",
    redis: typed.Redis = "",
) -> None:
    served: list[Served]
    if system or not run:
        names = [find_system(system).name] if system else sorted(installed())
        plugins = [installed()[name] for name in names]
        served = [(p.system, Names(run or p.system.name), declarations(p)) for p in plugins]
    else:
        with target.opened(run, redis) as (client, of_run, _):
            contract = target.contract_of(client, of_run)
            served = [(contract, of_run, registry.declared_in(client, of_run))]
    output.say(*ABOUT.splitlines(), *users(served))


def declarations(plugin: Plugin) -> dict[str, Declaration]:
    """Return what each component of an installed system declares.

    The `component` of its module is asked, or of the module's `handlers` if it is a package; it may
    be a function that is called with a callback, or the members of an ensemble.
    """
    clients = load(plugin.clients)
    found: dict[str, Declaration] = {}
    for name, module in plugin.modules.items():
        if name not in clients:
            found |= declared_by(name, module)
    return found


def declared_by(name: str, module: str) -> dict[str, Declaration]:
    """Return what the component of a module declares, or each member of its ensemble."""
    loaded = import_module(module)
    if not hasattr(loaded, "component"):
        loaded = import_module(f"{module}.handlers")
    made = loaded.component
    if isinstance(made, Sequence):
        return {each.name: Declaration.of(each) for each in made}
    return {name: Declaration.of(made if isinstance(made, Component) else made(lambda: None))}


def users(served: Sequence[Served]) -> Iterator[str]:
    """Yield the lines of an ACL file, by name of the user."""
    rules = {"default": access.of_operator()}
    rules["dashboard"] = access.of_viewer([names for _, names, _ in served])
    rules |= {name: grants.rules() for name, grants in _grants(served).items()}
    for name in sorted(rules):
        yield f"user {name} on {rules[name]}"


def _grants(served: Sequence[Served]) -> dict[str, Grants]:
    """Return the grants of each user; a component of several systems has those of all."""
    found: dict[str, Grants] = {}
    for system, names, declared in served:
        tables = {table for each in declared.values() for table in each.tables}
        by_name = {
            name: access.of_component(system, name, each, names, tables)
            for name, each in declared.items()
            if name != GATEWAY
        }
        for name, members in ensembles(by_name).items():  # of a process that serves all of them
            by_name[name] = reduce(Grants.__or__, (by_name[member] for member in members))
        by_name[GATEWAY] = access.of_gateway(system, names)
        by_name[GUEST] = access.of_any_client(system, names)
        plugin = installed().get(system.name)
        for name, needs in load(plugin.clients).items() if plugin else ():
            by_name[name] = access.of_client(system, needs.sends, needs.reads, names)
        for name, grants in by_name.items():
            found[name] = found[name] | grants if name in found else grants
    return found
