"""Where a component hears and speaks, by the contract and by what it declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roomgrad.errors import SettingsError
from roomgrad.rooms import Array, MessageType, Stream, System
from roomgrad.schema import Declaration

FORWARD, GRADIENT = MessageType.FORWARD.value, MessageType.GRADIENT.value


@dataclass(frozen=True)
class Rooms:
    """The four streams through which one trains through a component."""

    asked: Stream
    """Forward messages come in here."""

    answered: Stream
    """And their answers go out here."""

    upstream: Stream
    """The gradient of an answer comes in here."""

    returned: Stream
    """And that of what was asked goes out here."""


def of(system: System, component: str, declared: Mapping[str, Declaration]) -> Rooms:
    """The rooms of a component. Raises SettingsError where nothing could train through it."""
    if component not in system.components:
        raise SettingsError(
            f"system {system.name} has no component {component!r}: there are "
            f"{', '.join(system.components)}"
        )
    pairs = [pair for pair in _pairs(system, component, declared) if _is_whole(system, *pair)]
    if len(pairs) != 1:
        found = f"it has {len(pairs)} such pairs" if pairs else "it has none"
        raise SettingsError(
            f"{component} cannot be checked: expected one room from which it takes {FORWARD} and "
            f"one to which it answers {FORWARD}, with {GRADIENT} the other way; {found}"
        )
    asked, answered = pairs[0]
    return Rooms(
        system.stream(asked, FORWARD),
        system.stream(answered, FORWARD),
        system.stream(answered, GRADIENT),
        system.stream(asked, GRADIENT),
    )


def _pairs(
    system: System, component: str, declared: Mapping[str, Declaration]
) -> set[tuple[str, str]]:
    """Rooms in and out: as it declares, or as the contract allows."""
    said = declared.get(component)
    if said is not None:
        return {
            (each.room, room)
            for each in said.handlers
            if each.type == FORWARD
            for room, type_ in each.replies
            if type_ == FORWARD
        }
    heard = {stream.key for stream in system.consumed_by(component)}
    rooms = system.rooms
    return {
        (asked, answered)
        for asked in rooms
        for answered in rooms
        if asked != answered and (asked, FORWARD) in heard and (answered, GRADIENT) in heard
    }


def _is_whole(system: System, asked: str, answered: str) -> bool:
    found = [
        system.find(room, type_) for room in (asked, answered) for type_ in (FORWARD, GRADIENT)
    ]
    return all(each is not None and "DATA" in each.schema for each in found)


def array(stream: Stream) -> Array:
    """The schema of DATA. Raises SettingsError for what cannot be differentiated."""
    schema = stream.schema["DATA"]
    if not isinstance(schema, Array) or "f" not in schema.dtype:
        raise SettingsError(f"DATA of {stream.room} {stream.type} is no array of floats")
    return schema
