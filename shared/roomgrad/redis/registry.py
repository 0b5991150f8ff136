"""The systems whose contracts are known, and what the components of a run say of themselves."""

from __future__ import annotations

import contextlib
from typing import Any

import redis

from roomgrad.errors import ContractError
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import System
from roomgrad.schema import Declaration, read_contract
from roomgrad.systems import installed


def systems() -> dict[str, System]:
    """Return the contracts of the installed systems, by name."""
    return {name: plugin.system for name, plugin in installed().items()}


def system_of_run(client: redis.Redis, names: Names) -> System | None:
    """The contract that the components of a run keep to; None where nobody has said it."""
    written: Any = client.hget(names.run_info(), "contract")
    if written is not None:
        with contextlib.suppress(ContractError):
            return read_contract(written)
    registered = components_of(client, names) - {GATEWAY}  # which takes part in any
    for system in systems().values():
        if registered & set(system.components):
            return system
    return None if registered else systems().get(names.run)


def components_of(client: redis.Redis, names: Names) -> set[str]:
    """The components that have ever served a run."""
    return set(_fields(client, names, "settings:"))


def declared_in(client: redis.Redis, names: Names) -> dict[str, Declaration]:
    """What each component that has served a run handles and sends, as far as it has said it."""
    found = {}
    for component, written in _fields(client, names, "declares:").items():
        with contextlib.suppress(ContractError):
            found[component] = Declaration.read(written)
    return found


def _fields(client: redis.Redis, names: Names, prefix: str) -> dict[str, bytes]:
    fields: dict[bytes, bytes] = client.hgetall(names.run_info())  # type: ignore[assignment]
    texts = {field.decode(errors="replace"): value for field, value in fields.items()}
    return {name.removeprefix(prefix): v for name, v in texts.items() if name.startswith(prefix)}
