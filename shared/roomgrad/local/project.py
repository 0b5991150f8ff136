"""The project: the module that each component is started as."""

from __future__ import annotations

import sys

from roomgrad import state, systems
from roomgrad.errors import RoomgradError


def module_of(component: str) -> str:
    """The module that a component is started as."""
    found = systems.module_of(component)
    if found is None:
        raise RoomgradError(f"no installed system has a component {component!r}")
    return found


def make_importable() -> None:
    """Lets this process import `services`; an installed command does not start in the project."""
    folder = str(state.root())
    if folder not in sys.path:
        sys.path.insert(0, folder)
