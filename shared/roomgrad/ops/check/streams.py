"""The streams through which a component is trained, by its contract and declaration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roomgrad.errors import SettingsError
from roomgrad.rooms import Array, MessageType, Stream, System
from roomgrad.schema import Declaration

FORWARD, GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value


@dataclass(frozen=True)
class TrainingStreams:
    """The four streams between a component and the one that trains through it."""

    inputs: Stream
    """Forward messages to the component."""

    outputs: Stream
    """Its replies to them."""

    upstream: Stream
    """Gradients of its replies."""

    returned: Stream
    """Gradients of its inputs, which it returns."""


def training_streams(
    system: System, component: str, declared: Mapping[str, Declaration]
) -> TrainingStreams:
    """Return the streams of a component. Raises SettingsError if none can train through it."""
    if component not in system.components:
        raise SettingsError(
            f"system {system.name} has no component {component!r}: its components are "
            f"{', '.join(system.components)}"
        )
    handlers = declared[component].handlers if component in declared else ()
    if parts := dict.fromkeys(name for each in handlers for name in each.senders or each.rooms):
        raise SettingsError(
            f"{component} joins parts of {', '.join(parts)}: check these one by one, and "
            f"{component} by a test with `roomgrad.testing.call`"
        )
    pairs = [pair for pair in _pairs(system, component, declared) if _is_complete(system, *pair)]
    if len(pairs) != 1:
        raise SettingsError(
            f"{component} cannot be checked: expected one room from which it takes {FORWARD} and "
            f"one to which it answers {FORWARD}, with {GRADIENT} the other way, got {len(pairs)} "
            f"such pairs"
        )
    enter, leave = pairs[0]
    found = TrainingStreams(
        system.stream(enter, FORWARD),
        system.stream(leave, FORWARD),
        system.stream(leave, GRADIENT),
        system.stream(enter, GRADIENT),
    )
    for stream in (found.inputs, found.outputs, found.upstream, found.returned):
        data_schema(stream)
    return found


def _pairs(
    system: System, component: str, declared: Mapping[str, Declaration]
) -> set[tuple[str, str]]:
    """Return pairs of rooms (in, out): as the component declares, or as the contract allows."""
    if component in declared:
        return {
            (each.room, room)
            for each in declared[component].handlers
            if each.type == FORWARD
            for room, type_ in each.replies
            if type_ == FORWARD
        }
    consumed = {stream.key for stream in system.consumed_by(component)}
    return {
        (enter, leave)
        for enter in system.rooms
        for leave in system.rooms
        if enter != leave and (enter, FORWARD) in consumed and (leave, GRADIENT) in consumed
    }


def _is_complete(system: System, enter: str, leave: str) -> bool:
    streams = [system.find(room, type_) for room in (enter, leave) for type_ in (FORWARD, GRADIENT)]
    return None not in streams


def data_schema(stream: Stream) -> Array:
    """Return the schema of DATA. Raises SettingsError if it cannot be differentiated."""
    schema = stream.schema.get("DATA")
    if not isinstance(schema, Array) or schema.kind != "f":
        raise SettingsError(
            f"DATA of {stream.room} {stream.type} is not an array of floats: expected one, as its "
            f"gradient is compared with finite differences"
        )
    return schema
