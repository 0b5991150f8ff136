"""What a run of a system starts: its components, how many of each, and with which settings."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from roomgrad.errors import SettingsError
from roomgrad.names import GATEWAY, Names
from roomgrad.redis.registry import systems
from roomgrad.rooms import System
from roomgrad_trebuchet.contract import TREBUCHET

MOST_REPLICAS = 64

SWARM_FILES = (".yaml", ".yml")

Value = int | float | str | bool


class Program(TypedDict):
    """A program of a swarm file."""

    command: list[str]
    delay_s: float
    """How long to wait when it has started, before the next one does."""


@dataclass(frozen=True)
class Plan:
    """A run as it is to be served. All of it is JSON, so that another process can serve it."""

    system: str
    """Empty for a swarm file."""

    run: str
    replicas: dict[str, int]
    """What is started, in this order, and how many of each; 0 where somebody else stands in."""

    settings: dict[str, dict[str, Value]]
    """Of each component, by flag, where they differ from its defaults."""

    file: str = ""
    """The swarm file; its folder is the one in which its programs run."""

    programs: dict[str, Program] = field(default_factory=dict)
    """What is started after all components, in this order."""

    @property
    def names(self) -> Names:
        return Names(self.run)

    @property
    def contract(self) -> System:
        return systems()[self.system]

    @property
    def components(self) -> tuple[str, ...]:
        """Those that are started."""
        return tuple(name for name, count in self.replicas.items() if count)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Those for which somebody else stands in."""
        return tuple(name for name, count in self.replicas.items() if not count)

    @property
    def door(self) -> tuple[str, int] | None:
        """Where swergio clients connect on this machine, if the plan has a gateway."""
        if GATEWAY not in self.components:
            return None
        host = os.environ.get("HOST", "") or "127.0.0.1"  # as the gateway reads it
        return host, int(self.settings[GATEWAY]["port"])

    def count(self, component: str) -> int:
        """How many replicas of a component are started."""
        return self.replicas[component]

    def flags(self, component: str) -> list[str]:
        """The flags of a component. The server's address is no flag: it may hold a password."""
        given = {"run": self.run, **self.settings.get(component, {})}
        return [f"--{name}={_shown(value)}" for name, value in given.items()]


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def find_system(name: str) -> System:
    """The contract of a system. Raises SettingsError with the systems that there are."""
    if name.endswith(SWARM_FILES):
        raise SettingsError(
            f"{name} is a swarm file, not a system: `roomgrad up` and `down` take one"
        )
    if name not in systems():
        raise SettingsError(f"there is no system {name!r}: {hint(name, list(systems()))}")
    return systems()[name]


def system_of(component: str) -> System:
    """The system to which a component belongs. Raises SettingsError for an unknown one."""
    for system in systems().values():
        if component in system.components:
            return system
    if component == GATEWAY:
        raise SettingsError(
            f"{GATEWAY} is a member of no system, and nothing waits for it: its flag --wait-s says "
            "for how long messages wait for its clients"
        )
    known = [name for system in systems().values() for name in system.components]
    raise SettingsError(f"there is no component {component!r}: {hint(component, known)}")


def served_as(what: str) -> str:
    """The run in which a system or a swarm file is served where none is named.

    Raises SettingsError.
    """
    return Path(what).stem if what.endswith(SWARM_FILES) else find_system(what).name


def run_of(component: str) -> str:
    """The run in which a component is where none is named. Raises SettingsError."""
    if component == GATEWAY:  # which may serve any system, as it was told by the same variable
        return os.environ.get("SYSTEM", "") or TREBUCHET.name
    return system_of(component).name


def counted(components: Sequence[str], texts: Sequence[str], least: int = 1) -> dict[str, int]:
    """One of each component, or as many as `["simulator=2,trainer=1"]` says.

    Raises SettingsError.
    """
    words = [word for text in texts for word in text.split(",") if word]
    given = dict(_replicas(word, components, least) for word in words)
    return {**dict.fromkeys(components, 1), **given}


def _replicas(word: str, components: Sequence[str], least: int) -> tuple[str, int]:
    component, _, number = word.partition("=")
    if component not in components:
        near = hint(component, list(components))
        raise SettingsError(f"--replicas {word}: there is no component {component!r}, {near}")
    if not number.isdecimal() or not least <= int(number) <= MOST_REPLICAS:
        raise SettingsError(
            f"--replicas {word}: allowed is a whole number from {least} to {MOST_REPLICAS}, "
            f"like {component}=2"
        )
    return component, int(number)


def hint(name: str, known: list[str]) -> str:
    """What was meant, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
