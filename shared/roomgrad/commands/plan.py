"""What a run of a system starts: its components, how many of each, and with which flags."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

from roomgrad.contracts.trebuchet import CONTROLMODEL, SIMULATOR, TRAINER, TREBUCHET
from roomgrad.errors import SettingsError
from roomgrad.names import Names
from roomgrad.rooms import System

SYSTEMS = {TREBUCHET.name: TREBUCHET}
MOST_REPLICAS = 64
WEIGHT_HEADS = {"learn": "smooth", "original": "plus200"}


@dataclass(frozen=True)
class Plan:
    """A run as it was asked for on the command line."""

    system: str = TREBUCHET.name
    run: str = ""
    steps: int = 1000
    seed: int = 0
    preset: str = "learn"
    window: int = 1
    threads: int = 1
    replicas: dict[str, int] = field(default_factory=dict)

    @property
    def names(self) -> Names:
        return Names(self.run or self.system)

    @property
    def contract(self) -> System:
        return SYSTEMS[self.system]

    def count(self, component: str) -> int:
        """How many replicas of a component are started."""
        return self.replicas.get(component, 1)

    def flags(self, component: str) -> list[str]:
        """The flags of a component. The server's address is no flag: it may hold a password."""
        own: dict[str, dict[str, int | str]] = {
            TRAINER: {"train-steps": self.steps, "seed": self.seed, "window": self.window},
            CONTROLMODEL: {
                "train-steps": self.steps,
                "seed": self.seed,
                "preset": self.preset,
                "threads": self.threads,
            },
            SIMULATOR: {"weight-head": WEIGHT_HEADS[self.preset]},
        }
        common = {"run": self.names.run, **own[component]}
        return [f"--{name}={value}" for name, value in common.items()]


def find_system(name: str) -> System:
    """The contract of a system. Raises SettingsError with the systems that there are."""
    if name not in SYSTEMS:
        raise SettingsError(f"there is no system {name!r}: {_hint(name, list(SYSTEMS))}")
    return SYSTEMS[name]


def system_of(component: str) -> System:
    """The system to which a component belongs. Raises SettingsError for an unknown one."""
    for system in SYSTEMS.values():
        if component in system.components:
            return system
    known = [name for system in SYSTEMS.values() for name in system.components]
    raise SettingsError(f"there is no component {component!r}: {_hint(component, known)}")


def parse_replicas(texts: Sequence[str], system: System) -> dict[str, int]:
    """`["simulator=2,trainer=1"]` as numbers by component. Raises SettingsError."""
    words = [word for text in texts for word in text.split(",") if word]
    return dict(_replicas(word, system) for word in words)


def _replicas(word: str, system: System) -> tuple[str, int]:
    component, _, number = word.partition("=")
    if component not in system.components:
        hint = _hint(component, list(system.components))
        raise SettingsError(f"--replicas {word}: there is no component {component!r}, {hint}")
    if not number.isdecimal() or not 1 <= int(number) <= MOST_REPLICAS:
        raise SettingsError(
            f"--replicas {word}: allowed is a whole number from 1 to {MOST_REPLICAS}, "
            f"like {component}=2"
        )
    return component, int(number)


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
