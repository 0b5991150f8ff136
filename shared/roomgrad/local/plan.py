"""What `roomgrad run` or `up` starts: components, how many of each, and with which settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from roomgrad import ensembles, variables
from roomgrad.errors import SettingsError
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import System
from roomgrad.systems import installed

MOST_REPLICAS = 64

SWARM_FILES = (".yaml", ".yml")

Value = int | float | str | bool


class Program(TypedDict):
    """A program of a swarm file."""

    command: list[str]
    delay_s: float
    """Seconds between its start and the start of the next program."""


@dataclass(frozen=True)
class Plan:
    """What a run consists of. All of it is JSON, so that a background process can serve it."""

    system: str
    """Empty for a swarm file."""

    run: str
    replicas: dict[str, int]
    """How many replicas of each component, in the order of their start; 0 where another program
    takes the component's place."""

    settings: dict[str, dict[str, Value]]
    """By component and flag, where they differ from the defaults."""

    file: str = ""
    """The swarm file. Its programs run in its folder."""

    programs: dict[str, Program] = field(default_factory=dict)
    """Programs to start after all components, in this order."""

    new_runs_only: dict[str, str] = field(default_factory=dict)
    """Components with a setting that is read only when a run begins, and the error message for a
    run that has begun."""

    members: int = 0
    """The size of the ensembles of the system; that of its contract if 0."""

    @property
    def names(self) -> Names:
        return Names(self.run)

    @property
    def contract(self) -> System:
        return installed()[self.system].sized(self.members)

    @property
    def components(self) -> tuple[str, ...]:
        """Components with at least one replica."""
        return tuple(name for name, count in self.replicas.items() if count)

    @property
    def modules(self) -> dict[str, tuple[str, ...]]:
        """Those by what serves them: themselves, or their ensemble."""
        found = ensembles.programs(self.replicas)
        counted = {name: tuple(n for n in each if self.replicas[n]) for name, each in found.items()}
        return {name: served for name, served in counted.items() if served}

    def processes(self, module: str) -> list[tuple[str, ...]]:
        """Return the components that each process of a component or an ensemble serves.

        The first process serves one replica of every member, the second those that have two.
        """
        served = self.modules[module]
        most = max(self.replicas[name] for name in served)
        return [tuple(n for n in served if self.replicas[n] > i) for i in range(most)]

    @property
    def replaced(self) -> tuple[str, ...]:
        """Components whose place another program takes."""
        return tuple(name for name, count in self.replicas.items() if not count)

    @property
    def gateway(self) -> tuple[str, int] | None:
        """Host and port of the gateway on this machine, if the plan has one."""
        if GATEWAY not in self.components:
            return None
        host = variables.get("host", "127.0.0.1")  # as the gateway reads it
        return host, int(self.settings[GATEWAY]["port"])

    def differences(self, served: Plan, usual: Plan) -> Iterator[str]:
        """Yield what a run that is served has otherwise than this plan asks for.

        usual: the plan without options; what is as usual was not asked for.
        """
        for component, settings in self.settings.items():
            before, now = (each.settings.get(component, {}) for each in (usual, served))
            for name, value in settings.items():
                if value != before.get(name) and value != now.get(name):
                    given = f"--{name}={_text(now[name])}" if name in now else f"no --{name}"
                    yield f"{given} of {component}"
        for component, count in self.replicas.items():
            there = served.replicas.get(component, 0)
            if count not in (usual.replicas.get(component), there):
                yield f"{there} x {component}"
        if self.programs.keys() not in (usual.programs.keys(), served.programs.keys()):
            yield f"the programs {', '.join(served.programs)}"

    def flags(self, module: str, served: Sequence[str] = ()) -> list[str]:
        """Return a component's flags. The server's address may hold a password, so it is none.

        served: the members that a process of an ensemble serves.
        """
        given = {"run": self.run, **self.settings.get(module, {})}
        if served and served != (module,):
            given["member"] = ",".join(str(ensembles.index_of(name)) for name in served)
        return [f"--{name}={_text(value)}" for name, value in given.items()]


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_gateway(plan: Plan, port: int) -> Plan:
    """Return the plan with a gateway at a port; unchanged for port 0."""
    if not port:
        return plan
    system: dict[str, Value] = {"system": plan.system} if plan.system else {}
    return replace(
        plan,
        replicas={**plan.replicas, GATEWAY: 1},
        settings={**plan.settings, GATEWAY: {"port": port, **system}},
    )


def find_system(name: str, members: int = 0) -> System:
    """Return the contract of an installed system. Raises SettingsError if there is none.

    members: the size of its ensembles; that of the contract if 0.
    """
    if name.endswith(SWARM_FILES):
        raise SettingsError(
            f"{name} is a swarm file, not a system: `roomgrad up {name}` starts it, `down` stops it"
        )
    if name not in installed():
        raise SettingsError(f"there is no system {name!r}: {hint(name, list(installed()))}")
    return installed()[name].sized(members)


def plan_of(
    system: str,
    run: str = "",
    replicas: Sequence[str] = (),
    least: int = 1,
    given: Iterable[str] = (),
    members: int = 0,
) -> Plan:
    """Return the plan of a system that declares no options: every component.

    given: settings as COMPONENT.FLAG=VALUE, of an ensemble for all its members.
    members: the size of its ensembles; that of the contract if 0.

    Raises SettingsError.
    """
    components = find_system(system, members).components
    counts = counted(components, replicas, least)
    programs = ensembles.programs(components)
    settings: dict[str, dict[str, Value]] = {}
    for text in given:
        place, equals, value = text.partition("=")
        component, _, flag = place.rpartition(".")
        if not (component and flag and equals):
            raise SettingsError(f"--set {text}: expected COMPONENT.FLAG=VALUE")
        if component not in programs:
            raise SettingsError(
                f"--set {text}: there is no component {component!r}, "
                f"{hint(component, list(programs))}"
            )
        settings.setdefault(component, {})[flag.replace("_", "-")] = value
    return Plan(system, run or system, counts, settings, members=members)


def default_run(what: str) -> str:
    """Return the name of the run of a system or a swarm file. Raises SettingsError."""
    return Path(what).stem if what.endswith(SWARM_FILES) else find_system(what).name


def counted(components: Sequence[str], texts: Sequence[str], least: int = 1) -> dict[str, int]:
    """Return the replicas of each component: 1, or as many as `["simulator=2,trainer=1"]` says.

    The name of an ensemble stands for each of its members.

    Raises SettingsError for an unknown component, or fewer than `least` replicas.
    """
    words = [word for text in texts for word in text.split(",") if word]
    counts = dict.fromkeys(components, 1)
    for word in words:
        counts |= _replicas(word, components, least)
    return counts


def _replicas(word: str, components: Sequence[str], least: int) -> dict[str, int]:
    component, _, number = word.partition("=")
    programs = ensembles.programs(components)
    if component not in components and component not in programs:
        near = hint(component, list(programs))
        raise SettingsError(f"--replicas {word}: there is no component {component!r}, {near}")
    if not (number.isascii() and number.isdecimal()) or not least <= int(number) <= MOST_REPLICAS:
        raise SettingsError(
            f"--replicas {word}: allowed is a whole number from {least} to {MOST_REPLICAS}, "
            f"like {component}=2"
        )
    return dict.fromkeys(programs.get(component, (component,)), int(number))


def hint(name: str, known: list[str]) -> str:
    """Return which known name was probably meant, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(known)}." if known else "there are none."
