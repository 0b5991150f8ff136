"""What a question needs to know of a run: the contract, the room of the answer, the dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import redis
from numpy.typing import ArrayLike, NDArray

from roomgrad import dtypes
from roomgrad.errors import ContractError, SchemaError
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.rooms import Array, MessageType, Stream, System

_FORWARD = MessageType.FORWARD


def contract(client: redis.Redis, names: Names, system: System | str) -> System:
    """Return the contract of a run, or else of an installed system. Raises ContractError."""
    if isinstance(system, System):
        return system
    found = registry.system_of_run(client, names) or registry.systems().get(system)
    if found is None:
        known = ", ".join(sorted(registry.systems())) or "none"
        raise ContractError(
            f"system {system!r}: run {names.run!r} does not exist, and the installed systems are "
            f"{known}: start its components, or name its run"
        )
    return found


def answer_room(client: redis.Redis, names: Names, system: System, room: str) -> str:
    """Return the last room to which the components of a run pass on what enters a room.

    Raises ContractError if there is none, or several.
    """
    system.stream(room, _FORWARD)
    ends = registry.ends_of(registry.declared_in(client, names), system, (room, _FORWARD))
    if len(ends) != 1:
        found = f"{', '.join(ends)} are possible" if ends else "no component has declared it yet"
        raise ContractError(
            f"in which room does the answer to {room} come? {found}: name it by answer="
        )
    return ends[0]


def as_array(stream: Stream, name: str, value: ArrayLike) -> NDArray[Any]:
    """Return an array in the dtype of a stream, if nothing but precision is lost.

    Lists and numbers take that dtype. Raises SchemaError.
    """
    expected = stream.schema.get(name)
    if not isinstance(expected, Array):
        raise SchemaError(f"room {stream.room} has no array {name}, but {', '.join(stream.schema)}")
    dtype = dtypes.from_name(expected.dtype)
    if not hasattr(value, "dtype"):
        return _from_numbers(stream, name, value, dtype)
    array = np.asarray(value)
    kinds = dtypes.kind_of(array.dtype), expected.kind
    if kinds[0] != kinds[1] and not set(kinds) <= {"i", "u"}:
        raise SchemaError(
            f"{name}: room {stream.room} takes {dtypes.name_of(dtype)}, got {array.dtype}"
        )
    return np.ascontiguousarray(array, dtype=dtype)


def _from_numbers(stream: Stream, name: str, value: ArrayLike, dtype: Any) -> NDArray[Any]:
    try:
        return np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise SchemaError(
            f"{name}: room {stream.room} takes {dtypes.name_of(dtype)}: {error}"
        ) from error
