"""`roomgrad acl`: a user of Redis for each component, with the rights that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from roomgrad.cli import options as typed

if TYPE_CHECKING:
    from roomgrad.names import Names
    from roomgrad.ops.acl import Grants
    from roomgrad.rooms import System
    from roomgrad.schema import Declaration

ABOUT = """\
# Users of Redis, one for each component, with the rights that it needs and no others, as
# `roomgrad acl` prints them. No password stands here: without one nobody gets in as that user.
"""

# What comes with the two systems beside their components.
LISTENERS = {"melody": ("rater",)}


def acl(
    system: Annotated[
        str, Argument(help="A system that comes with roomgrad.", metavar="[SYSTEM]")
    ] = "",
    run: Annotated[
        str, Option(help="Name of the run; without SYSTEM, one that its components have served.")
    ] = "",
    redis: typed.Redis = "",
) -> None:
    """Print an ACL for Redis: one user per component, allowed what its declaration needs."""
    from roomgrad.cli import target
    from roomgrad.errors import SettingsError
    from roomgrad.local.plan import find_system
    from roomgrad.names import Names
    from roomgrad.redis import registry

    if system or not run:
        systems = [find_system(system)] if system else list(registry.systems().values())
        served = [(each, Names(run or each.name), shipped(each)) for each in systems]
    else:
        with target.reached(redis) as (client, _):
            names = target.chosen(client, run)
            contract = registry.system_of_run(client, names)
            if contract is None:
                raise SettingsError(
                    f"nobody has said what the rooms of run {names.run} carry: start its "
                    f"components once, as a user who may do everything"
                )
            served = [(contract, names, registry.declared_in(client, names))]
    print(ABOUT + "\n".join(users(served)))


def shipped(system: System) -> dict[str, Declaration]:
    """What the components of a system declare that comes with roomgrad."""
    from roomgrad.component import Component
    from roomgrad.local import project
    from roomgrad.schema import Declaration

    found = {}
    for name in (*system.components, *LISTENERS.get(system.name, ())):
        made = import_module(f"{project.module_of(name)}.handlers").component
        found[name] = Declaration.of(made if isinstance(made, Component) else made(lambda: None))
    return found


def users(served: Sequence[tuple[System, Names, Mapping[str, Declaration]]]) -> Iterator[str]:
    """The lines of an ACL file, by name of the user."""
    from roomgrad.ops import acl as access

    rules = {"default": access.of_operator()}
    rules["dashboard"] = access.of_viewer([names for _, names, _ in served])
    rules |= {name: grants.rules() for name, grants in _grants(served).items()}
    for name in sorted(rules):
        yield f"user {name} on {rules[name]}"


def _grants(served: Sequence[tuple[System, Names, Mapping[str, Declaration]]]) -> dict[str, Grants]:
    from roomgrad.names import GATEWAY
    from roomgrad.ops import acl as access

    found: dict[str, Grants] = {}
    for system, names, declared in served:
        by_name = {
            name: access.of_component(system, name, each, names)
            for name, each in declared.items()
            if name != GATEWAY
        }
        by_name[GATEWAY] = access.of_gateway(system, names)
        if system.name == "trebuchet":
            by_name["inference"] = _inference(system, names)
        found |= {
            name: found[name] | each if name in found else each for name, each in by_name.items()
        }
    return found


def _inference(system: System, names: Names) -> Grants:
    from roomgrad.ops import acl as access
    from roomgrad_trebuchet.contract import FORWARD, INPUT, OUTPUT

    asks, answers = [(INPUT.name, FORWARD.value)], [(OUTPUT.name, FORWARD.value)]
    return access.of_client(system, asks, answers, names)
