"""The contract of a run, and what its components have stored about themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis

from roomgrad.component import Component
from roomgrad.errors import ContractError
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import Stream, System
from roomgrad.schema import Declaration, contract_from_json, contract_to_json
from roomgrad.systems import installed

JOINS = "joins:"  # field of a component that is in no system, with its own part of the contract
FORGOTTEN = "forgotten:"


def systems() -> dict[str, System]:
    """Return the contracts of the installed systems, by name."""
    return {name: plugin.system for name, plugin in installed().items()}


def system_of_run(client: redis.Redis, names: Names, without: str = "") -> System | None:
    """Return the contract of a run; None if it is unknown.

    It is the contract that its components have stored. For a run without one, it is that of the
    installed system that has one of its components, or the name of the run. Components that have
    joined the run add their streams.

    without: a component that has joined, whose streams are left out.
    """
    joined = joined_contracts(client, names)
    others = [each for each in joined if without not in each.components]
    found = [each for each in (_system(client, names, joined), *others) if each]
    return merge(found) if found else None


def _system(client: redis.Redis, names: Names, joined: Sequence[System]) -> System | None:
    written: Any = client.hget(names.run_info(), "contract")
    if written is not None:
        with contextlib.suppress(ContractError):
            return contract_from_json(written)
    others = {GATEWAY}.union(*(each.components for each in joined))  # they serve any system
    registered = components_of(client, names) - others
    for system in systems().values():
        if registered & set(system.components):
            return system
    return None if registered else systems().get(names.run)


def joined_contracts(client: redis.Redis, names: Names) -> list[System]:
    """Return the part of the contract of each component that has joined a run, sorted by name."""
    gone, found = _fields(client, names, FORGOTTEN), []
    for name, stored in sorted(_fields(client, names, JOINS).items()):
        with contextlib.suppress(ContractError):
            found += [] if name in gone else [contract_from_json(stored)]
    return found


def contract_fields(component: Component) -> dict[str, bytes]:
    """Return the field that stores the contract of a component, or its part if it joins a run."""
    if not component.joins:
        return {"contract": contract_to_json(component.system)}
    own = {handler.key for handler in component.handlers} | component.reply_streams()
    streams = [
        replace(each, consumers=tuple({*each.consumers} & {component.name}), senders=())
        for each in component.system.streams
        if each.key in own
    ]
    part = System(component.system.name, tuple(streams), (component.name,))
    return {JOINS + component.name: contract_to_json(part)}


def members(system: System, fields: Iterable[bytes]) -> tuple[str, ...]:
    """Return the components of a contract, and those that have joined a run since it was read.

    fields: the names of the fields of `Names.run_info`.
    """
    texts = (field.decode(errors="replace") for field in fields)
    joined = (text.removeprefix(JOINS) for text in texts if text.startswith(JOINS))
    return tuple(dict.fromkeys([*system.components, *joined]))


def merge(systems: Sequence[System]) -> System:
    """Return one contract of several: a stream looks as the first of them says."""
    streams: dict[tuple[str, str], Stream] = {}
    for stream in (stream for each in systems for stream in each.streams):
        before = streams.get(stream.key, stream)
        consumers = tuple(dict.fromkeys([*before.consumers, *stream.consumers]))
        senders = before.senders or stream.senders
        streams[stream.key] = replace(before, consumers=consumers, senders=senders)
    components = dict.fromkeys(name for each in systems for name in each.components)
    return replace(systems[0], streams=tuple(streams.values()), components=tuple(components))


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


def ends_of(
    declared: Mapping[str, Declaration], system: System, start: tuple[str, str]
) -> list[str]:
    """Return the rooms to which a message of a stream leads and from which none goes on."""

    def onward(key: tuple[str, str]) -> set[tuple[str, str]]:
        return {
            reply
            for component, declaration in declared.items()
            if component in system.stream(*key).consumers
            for handler in declaration.handlers
            if (handler.room, handler.type) == key
            for reply in handler.replies
            if reply[1] == key[1]
        }

    reached, todo = {start}, [start]
    while todo:
        found = onward(todo.pop()) - reached
        reached |= found
        todo += found
    return sorted(key[0] for key in reached - {start} if not onward(key))
