"""Systems plug in: what each brings to roomgrad, found by the entry points `roomgrad.systems`.

[project.entry-points."roomgrad.systems"]
trebuchet = "roomgrad_trebuchet.plugin:plugin"

The entry point has the name of the system. A plug-in is data: whatever takes long to import, like
a contract with its arrays, is named as "module:object" and loaded when it is needed, so that
`roomgrad --help` stays fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, NamedTuple

from roomgrad import variables
from roomgrad.ensembles import MOST_MEMBERS, is_member
from roomgrad.errors import ContractError, SettingsError

if TYPE_CHECKING:
    from roomgrad.rooms import System

GROUP = "roomgrad.systems"

# Programs that serve any system and are components of none.
PROGRAMS = {"dashboard": "roomgrad.web.dashboard", "gateway": "roomgrad_swergio.gateway"}

# `roomgrad up swarm.yaml`; a class as `Plugin.up` names one.
SWARM = "roomgrad_swergio.swarm.options:Swarm"


@dataclass(frozen=True)
class Progress:
    """How far a run is; returned by the function that `Plugin.progress` names."""

    done: int
    """How many units are done."""

    total: int | None
    """How many units there are in all; None if the run has no end."""

    unit: str
    """What is counted, in the plural, like "batches"."""

    details: tuple[str, ...] = ()
    """Figures for a person, each a few words: "loss 12.31", "mean miss 3.20 m"."""

    figures: object = None
    """What `top --json` prints as `training`: a dataclass or a dict."""


class Gauge(NamedTuple):
    """A gauge for Prometheus: one field of the newest record in a table of the run."""

    name: str
    """Name of the metric, like "roomgrad_miss_metres"."""

    about: str
    """Its help text, one sentence."""

    component: str
    """The component that exports it."""

    table: str
    """The table; its values are JSON objects, its fields numbers of batches, of which the component
    counts those that are finished in its counter `finished`."""

    field: str
    """The key in those objects."""


class Access(NamedTuple):
    """What a program sends and reads as a client of the rooms, as (room, TYPE)."""

    sends: tuple[tuple[str, str], ...]
    reads: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plugin:
    """What a system brings to roomgrad. Only the first two fields are needed.

    `roomgrad run`, `up`, `top`, the dashboard and so on serve a system without the others, too.
    """

    contract: str | System | Callable[..., System]
    """Its contract, best as "module:object". Or a function of the size of its ensembles, with a
    default, that returns the contract: see `sized`."""

    modules: Mapping[str, str]
    """The module of each component or ensemble, started as `python -m MODULE`; also those of
    programs that are in no contract, like a rater or a client."""

    run: str = ""
    """`roomgrad run SYSTEM`: "module:Class", a dataclass whose fields are the options and whose
    methods are those of `roomgrad.cli.launch.RunOptions`."""

    up: str = ""
    """`roomgrad up SYSTEM`: as `run`, with the methods of `roomgrad.cli.launch.UpOptions`."""

    commands: str = ""
    """Commands of its own: "module:object", a `typer.Typer`; they become commands of `roomgrad`."""

    progress: str = ""
    """Its ledger: "module:function", called as `function(client: redis.Redis, names: Names)`;
    returns a `Progress`, or None while there is nothing to say."""

    panel: str = ""
    """Its part of the dashboard: "module:Class", created as `Class(names: Names)` for each run that
    is watched. `read(client: redis.Redis)` returns what is new as a JSON object, or None, and is
    called once every second or two. `static` is the `pathlib.Path` of a folder with `panel.js`,
    whose default export is called as `panel(element)` and returns `{show(found)}`, called with each
    new object."""

    metrics: str | tuple[Gauge, ...] = ()
    """Gauges of its tables, exported by its components; or "module:object"."""

    clients: str | Mapping[str, Access] = field(default_factory=dict)
    """Programs among `modules` that take part as clients, and what they need, for `roomgrad acl`;
    or "module:object"."""

    @cached_property
    def system(self) -> System:
        """The contract. Raises ContractError if it cannot be loaded."""
        return self.sized(0)

    def sized(self, members: int) -> System:
        """Return the contract with ensembles of this size; of that of the processes of a run if 0.

        Raises SettingsError for a size if the contract has none.
        """
        found = load(self.contract)
        if callable(found):
            return sized(found, members)
        if members:
            raise SettingsError(f"--members {members}: system {found.name} has no ensemble")
        contract: System = found
        return contract


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
        plugins[entry.name] = plugin
    return plugins


def module_of(component: str, system: str = "") -> str | None:
    """Return the module that a component or an ensemble is started as; None if no plug-in names it.

    system: the system whose component is meant, since two systems may use the same name; any if
    empty or not installed.
    """
    plugins = installed()
    for plugin in (plugins[system],) if system in plugins else plugins.values():
        if component in plugin.modules:
            return plugin.modules[component]
    return PROGRAMS.get(component)


def words_of(component: str, system: str = "") -> list[str]:
    """Return what follows `python -m` to start a component: its module, and of a member a flag.

    Empty if no plug-in names a module. system: as for `module_of`.
    """
    if module := module_of(component, system):
        return [module]
    ensemble, _, number = component.rpartition(".")
    module = module_of(ensemble, system) if is_member(component, ensemble) else None
    return [module, f"--member={number}"] if module else []


def sized(make: Callable[..., System], members: int = 0) -> System:
    """Return the contract that `make(members)` returns for ensembles of this size.

    members: ROOMGRAD_MEMBERS if 0, which `--members` sets in the processes of a run; if that is not
        set, what `make` has as its default.

    Raises SettingsError if ROOMGRAD_MEMBERS is no such number.
    """
    given = str(members) if members else variables.get("members")
    if not given:
        return make()
    if not (given.isascii() and given.isdecimal()) or not 1 <= int(given) <= MOST_MEMBERS:
        raise SettingsError(
            f"{variables.variable('members')}={given}: allowed is a whole number from 1 to "
            f"{MOST_MEMBERS}"
        )
    return make(int(given))


def load(reference: Any) -> Any:
    """Return the object that "module:object" names, or what a plug-in gives in its place.

    Raises ContractError if there is no such object.
    """
    if not isinstance(reference, str):
        return reference
    try:
        return EntryPoint(reference, reference, GROUP).load()
    except (ImportError, AttributeError, ValueError) as error:
        raise ContractError(
            f"a plug-in names {reference!r}, which cannot be loaded ({error}): "
            "install what it needs, or correct the plug-in"
        ) from error
