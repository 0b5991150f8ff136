"""The systems whose contracts are known, and which of them a run keeps to."""

from __future__ import annotations

import redis

from roomgrad.contracts.melody import MELODY
from roomgrad.contracts.trebuchet import TREBUCHET
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import System

SYSTEMS = {system.name: system for system in (TREBUCHET, MELODY)}


def system_of_run(client: redis.Redis, names: Names) -> System | None:
    """The contract that the components of a run keep to; None where no system here has them."""
    registered = components_of(client, names) - {GATEWAY}  # which takes part in any
    for system in SYSTEMS.values():
        if registered & set(system.components):
            return system
    return None if registered else SYSTEMS.get(names.run)


def components_of(client: redis.Redis, names: Names) -> set[str]:
    """The components that have ever served a run."""
    fields: list[bytes] = list(client.hkeys(names.run_info()))  # type: ignore[arg-type]
    texts = [field.decode(errors="replace") for field in fields]
    return {text.partition(":")[2] for text in texts if text.startswith("settings:")}
