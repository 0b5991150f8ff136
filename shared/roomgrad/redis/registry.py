"""The contract of a run, and what its components have stored about themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import redis

from roomgrad.errors import ContractError
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import System
from roomgrad.schema import Declaration, contract_from_json
from roomgrad.systems import installed


def systems() -> dict[str, System]:
    """Return the contracts of the installed systems, by name."""
    return {name: plugin.system for name, plugin in installed().items()}


def system_of_run(client: redis.Redis, names: Names) -> System | None:
    """Return the contract of a run; None if it is unknown.

    It is the contract that its components have stored. For a run without one, it is that of the
    installed system that has one of its components, or the name of the run.
    """
    written: Any = client.hget(names.run_info(), "contract")
    if written is not None:
        with contextlib.suppress(ContractError):
            return contract_from_json(written)
    registered = components_of(client, names) - {GATEWAY}  # it serves any system
    for system in systems().values():
        if registered & set(system.components):
            return system
    return None if registered else systems().get(names.run)


def components_of(client: redis.Redis, names: Names) -> set[str]:
    """Return the components that have ever served a run."""
    return set(_fields(client, names, "settings:"))


def declared_in(client: redis.Redis, names: Names) -> dict[str, Declaration]:
    """Return what each component of a run has declared that it handles and sends."""
    found = {}
    for component, stored in _fields(client, names, "declares:").items():
        with contextlib.suppress(ContractError):
            found[component] = Declaration.from_json(stored)
    return found


def _fields(client: redis.Redis, names: Names, prefix: str) -> dict[str, bytes]:
    fields: dict[bytes, bytes] = client.hgetall(names.run_info())  # type: ignore[assignment]
    texts = {field.decode(errors="replace"): value for field, value in fields.items()}
    return {name.removeprefix(prefix): v for name, v in texts.items() if name.startswith(prefix)}


def reached_from(
    declared: Mapping[str, Declaration], start: tuple[str, str]
) -> set[tuple[str, str]]:
    """Return the streams, as (room, TYPE), to which a message of a stream leads; itself included.

    A message of one TYPE leads to replies of the same: a forward pass, not its gradients.
    """
    reached = {start}
    while True:
        onward = {
            reply
            for declaration in declared.values()
            for handler in declaration.handlers
            if (handler.room, handler.type) in reached
            for reply in handler.replies
            if reply[1] == start[1]
        }
        if onward <= reached:
            return reached
        reached |= onward
