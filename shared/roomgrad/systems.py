"""Systems plug in: what each brings, found by entry points of the group `roomgrad.systems`.

[project.entry-points."roomgrad.systems"]
trebuchet = "roomgrad_trebuchet.plugin:plugin"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from roomgrad.errors import ContractError
from roomgrad.rooms import System

GROUP = "roomgrad.systems"

# Programs that serve any system. They are components of none.
PROGRAMS = {"dashboard": "roomgrad.web.dashboard", "gateway": "roomgrad_swergio.gateway"}


@dataclass(frozen=True)
class Plugin:
    """What a system brings to roomgrad."""

    system: System
    """Its contract."""

    modules: Mapping[str, str]
    """The module of each component, started as `python -m MODULE`."""


@cache
def installed() -> dict[str, Plugin]:
    """Return the plug-in of each installed system, by the system's name.

    Raises ContractError if an entry point does not lead to a plug-in.
    """
    plugins: dict[str, Plugin] = {}
    for entry in entry_points(group=GROUP):
        plugin = entry.load()
        if not isinstance(plugin, Plugin):
            raise ContractError(
                f"the entry point {entry.name} = {entry.value} of {GROUP} is "
                f"{type(plugin).__name__}, expected a roomgrad.systems.Plugin"
            )
        plugins[plugin.system.name] = plugin
    return plugins


def module_of(component: str) -> str | None:
    """Return the module that a component of an installed system is started as, or None."""
    for plugin in installed().values():
        if component in plugin.modules:
            return plugin.modules[component]
    return PROGRAMS.get(component)
