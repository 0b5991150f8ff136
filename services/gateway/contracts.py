"""Which contract holds in the rooms of a run."""

from __future__ import annotations

from typing import Any

import redis

from roomgrad.contracts.melody import MELODY
from roomgrad.contracts.trebuchet import TREBUCHET
from roomgrad.errors import SettingsError
from roomgrad.names import Names
from roomgrad.rooms import System

SYSTEMS = {system.name: system for system in (TREBUCHET, MELODY)}


def contract_of(client: redis.Redis, names: Names, system: str) -> System | None:
    """The one that is named, else that of the components that belong to the run, else its name's.

    None: all rooms are free. Raises SettingsError for a system that there is not.
    """
    if system:
        if system not in SYSTEMS:
            raise SettingsError(f"there is no system {system!r}: there are {', '.join(SYSTEMS)}")
        return SYSTEMS[system]
    fields: Any = client.hkeys(names.run_info())
    members = {field.decode().removeprefix("settings:") for field in fields}
    for each in SYSTEMS.values():
        if members & set(each.components):
            return each
    return SYSTEMS.get(names.run)
