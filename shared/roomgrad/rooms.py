"""Rooms, message types and the contract that says who reads what, and what it looks like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.errors import ContractError, SchemaError

# The names that the envelope of a message takes; everything else is a field of the system's own.
ENVELOPE = frozenset(
    {"v", "ID", "ROOT_ID", "TYPE", "TO_ROOM", "TO", "SENT_BY", "MODEL_STATUS", "m"}
)

SHAPES_REMEMBERED = 64  # per array of a contract, of those that were found to fit
_all = np.logical_and.reduce  # `array.all()` without its detour through Python

# Kinds of numbers (as numpy's dtypes name them) that may be given as lists for an array's kind.
_GIVEN = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


class MessageType(StrEnum):
    """The TYPE of a message, by the original's names."""

    FORWARD = "DATA/FORWARD"
    GRADIENT = "DATA/GRADIENT"
    REWARD = "DATA/REWARD"
    TEXT = "DATA/TEXT"
    CUSTOM = "DATA/CUSTOM"
    COMMAND = "COMMAND/CUSTOM"
    LOG_ERROR = "LOG/ERROR"
    LOG_KPI = "LOG/KPI"
    LOG_MESSAGE = "LOG/MESSAGES"


class ModelStatus(IntEnum):
    """MODEL_STATUS of a message."""

    TRAIN = 1
    VALIDATE = 2


@dataclass(frozen=True)
class Room:
    """A room of a system."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Array:
    """The schema of an array: little-endian dtype and shape; a name stands for any length."""

    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False
    _dtype: np.dtype[Any] = field(init=False, repr=False, compare=False)
    _fixed: list[tuple[int, int]] = field(init=False, repr=False, compare=False)
    _floating: bool = field(init=False, repr=False, compare=False)
    _fitting: set[tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fixed = [(i, n) for i, n in enumerate(self.shape) if isinstance(n, int)]
        object.__setattr__(self, "_floating", np.dtype(self.dtype).kind == "f")
        object.__setattr__(self, "_fitting", set())
        object.__setattr__(self, "_dtype", np.dtype(self.dtype))
        object.__setattr__(self, "_fixed", fixed)

    def check(self, name: str, value: object) -> NDArray[Any]:
        """`value` as an array of this schema. Raises SchemaError: what was expected, what came."""
        array = value if isinstance(value, np.ndarray) else self._from_lists(name, value)
        if array.dtype != self._dtype:
            raise SchemaError(f"{name}: expected dtype {self.dtype}, got {array.dtype.str}")
        if array.shape not in self._fitting and not self._fits(array.shape):
            raise SchemaError(f"{name}: expected shape {self.describe()}, got {array.shape}")
        if self._floating and not _all(np.isfinite(array), axis=None):
            raise SchemaError(f"{name}: expected finite numbers, got NaN or infinity")
        return array

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if len(shape) != len(self.shape) or any(shape[i] != n for i, n in self._fixed):
            return False
        if len(self._fitting) < SHAPES_REMEMBERED:
            self._fitting.add(shape)
        return True

    def _from_lists(self, name: str, value: object) -> NDArray[Any]:
        try:
            given = np.array(value)
            if given.size and given.dtype.kind not in _GIVEN.get(self._dtype.kind, ""):
                raise TypeError(f"{given.dtype} is not {self.dtype}")  # no texts, no halves
            with np.errstate(over="ignore"):  # infinity is refused by `check`
                return np.array(value, dtype=self._dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise SchemaError(
                f"{name}: expected numbers of shape {self.describe()}, got {str(value)[:80]}"
            ) from error

    def describe(self) -> str:
        """The shape as a person writes it: `(batch, 2)`."""
        return "(" + ", ".join(map(str, self.shape)) + ("," if len(self.shape) == 1 else "") + ")"


Schema = Mapping[str, Array]


@dataclass(frozen=True)
class Stream:
    """One room and one type: what its messages look like and who consumes them."""

    room: Room
    type: MessageType
    schema: Schema
    consumers: tuple[str, ...] = ()
    about: str = ""
    key: tuple[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if taken := ENVELOPE & self.schema.keys():
            raise ContractError(
                f"{self.room} {self.type}: {', '.join(sorted(taken))} belongs to the envelope of "
                f"every message, choose another name for the field"
            )
        object.__setattr__(self, "key", (self.room.name, self.type.value))


@dataclass(frozen=True)
class System:
    """The contract of a system: its streams and its components, as one page of data."""

    name: str
    streams: tuple[Stream, ...]
    components: tuple[str, ...]
    _by_key: dict[tuple[str, str], Stream] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {stream.key: stream for stream in self.streams})
        if len(self._by_key) < len(self.streams):
            keys = [stream.key for stream in self.streams]
            twice = ", ".join(f"{t} in {r}" for r, t in sorted(set(keys)) if keys.count((r, t)) > 1)
            raise ContractError(f"{self.name}: {twice} is declared twice")
        consumers = {name for stream in self.streams for name in stream.consumers}
        if unknown := consumers - set(self.components):
            raise ContractError(f"{self.name}: {sorted(unknown)} are not among its components")

    def find(self, room: str, type_: str) -> Stream | None:
        """The stream of a room and a TYPE, or None where the contract has none."""
        return self._by_key.get((room, type_))

    def stream(self, room: Room | str, type_: str) -> Stream:
        """The stream of a room and a TYPE. Raises ContractError where the contract has none."""
        found = self.find(str(room), type_)
        if found is None:
            known = ", ".join(f"{s.room} {s.type}" for s in self.streams)
            raise ContractError(f"system {self.name} has no {type_} in room {room}; it has {known}")
        return found

    def consumed_by(self, component: str) -> Iterator[Stream]:
        """The streams on which `component` has a group."""
        return (stream for stream in self.streams if component in stream.consumers)

    @property
    def rooms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stream.room.name for stream in self.streams))
