"""What a run of a system starts: its components, how many of each, and with which settings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from roomgrad.contracts.melody import MELODY
from roomgrad.contracts.trebuchet import TREBUCHET
from roomgrad.errors import SettingsError
from roomgrad.names import Names
from roomgrad.rooms import System

SYSTEMS = {system.name: system for system in (TREBUCHET, MELODY)}
MOST_REPLICAS = 64

Value = int | float | str | bool


@dataclass(frozen=True)
class Plan:
    """A run as it is to be served. All of it is JSON, so that another process can serve it."""

    system: str
    run: str
    replicas: dict[str, int]
    """What is started, in this order, and how many of each."""

    settings: dict[str, dict[str, Value]]
    """Of each component, by flag, where they differ from its defaults."""

    @property
    def names(self) -> Names:
        return Names(self.run)

    @property
    def contract(self) -> System:
        return SYSTEMS[self.system]

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(self.replicas)

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
    if name not in SYSTEMS:
        raise SettingsError(f"there is no system {name!r}: {hint(name, list(SYSTEMS))}")
    return SYSTEMS[name]


def system_of(component: str) -> System:
    """The system to which a component belongs. Raises SettingsError for an unknown one."""
    for system in SYSTEMS.values():
        if component in system.components:
            return system
    known = [name for system in SYSTEMS.values() for name in system.components]
    raise SettingsError(f"there is no component {component!r}: {hint(component, known)}")


def counted(components: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """One of each component, or as many as `["simulator=2,trainer=1"]` says.

    Raises SettingsError.
    """
    words = [word for text in texts for word in text.split(",") if word]
    return {**dict.fromkeys(components, 1), **dict(_replicas(word, components) for word in words)}


def _replicas(word: str, components: Sequence[str]) -> tuple[str, int]:
    component, _, number = word.partition("=")
    if component not in components:
        near = hint(component, list(components))
        raise SettingsError(f"--replicas {word}: there is no component {component!r}, {near}")
    if not number.isdecimal() or not 1 <= int(number) <= MOST_REPLICAS:
        raise SettingsError(
            f"--replicas {word}: allowed is a whole number from 1 to {MOST_REPLICAS}, "
            f"like {component}=2"
        )
    return component, int(number)


def hint(name: str, known: list[str]) -> str:
    """What was meant, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
