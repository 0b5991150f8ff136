"""Rooms, message types and the contract: which component reads what, and what it looks like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import dtypes
from roomgrad.errors import ContractError, SchemaError, format_value

# The names of a message's envelope; every other field is the system's own.
ENVELOPE = frozenset(
    {"v", "ID", "ROOT_ID", "TYPE", "TO_ROOM", "TO", "SENT_BY", "MODEL_STATUS", "SEED", "GUEST", "m"}
)

SHAPES_REMEMBERED = 64  # per array of a contract, of those that fit
MOST_DOT_VALUES = 10_000  # of which BLAS takes a dot product in the calling thread alone
_all = np.logical_and.reduce  # `array.all()` without its detour through Python

# Kinds of numbers (as numpy's dtypes name them) that may be given as lists for an array's kind.
_GIVEN = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
_VALUES = {"f": "numbers", "i": "integers", "u": "integers", "b": "true or false"}


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

    TRAIN = 1  # components answer, learn from the gradient, and return their own
    VALIDATE = 2  # components answer, in evaluation mode; no gradient follows
    DIFFERENTIATE = 3  # components answer in evaluation mode, return gradients, learn nothing


@dataclass(frozen=True)
class Room:
    """A room of a system."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Array:
    """The schema of an array: dtype and shape; a name stands for any length.

    dtype: one of `roomgrad.dtypes.NAMES`: numpy's name, little-endian, or `bfloat16`.
    low, high: the least and the greatest value that is allowed. nullable: null is allowed in
        floats, as NaN in numpy. empty: whether the array may have no values.
    """

    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    empty: bool = True
    kind: str = field(init=False, repr=False, compare=False)
    """f for floats, i and u for integers, b for booleans."""

    _dtype: np.dtype[Any] = field(init=False, repr=False, compare=False)
    _fixed: list[tuple[int, int]] = field(init=False, repr=False, compare=False)
    _fitting: set[tuple[int, ...]] = field(init=False, repr=False, compare=False)
    _bounded: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fixed = [(i, n) for i, n in enumerate(self.shape) if isinstance(n, int)]
        object.__setattr__(self, "_fitting", set())
        object.__setattr__(self, "_dtype", dtypes.from_name(self.dtype))
        object.__setattr__(self, "kind", dtypes.kind_of(self._dtype))
        object.__setattr__(self, "_fixed", fixed)
        object.__setattr__(self, "_bounded", self.low is not None or self.high is not None)

    def check(self, name: str, value: object) -> NDArray[Any]:
        """Return `value` as an array of this schema. Raises SchemaError with what was expected."""
        array = value if isinstance(value, np.ndarray) else self._from_lists(name, value)
        if not (
            type(array) is np.ndarray
            and array.dtype is self._dtype
            and array.shape in self._fitting
        ):
            self._check_form(name, array)
        if self.kind == "f" and not _are_finite(array):
            self._check_infinite(name, array)
        if self._bounded and array.size:
            self._check_bounds(name, array)
        return array

    def _check_form(self, name: str, array: NDArray[Any]) -> None:
        if dtypes.is_masked(array):
            raise SchemaError(f"{name}: expected an array without a mask: fill it by `filled`")
        if array.dtype != self._dtype:
            got = dtypes.name_of(array.dtype)
            raise SchemaError(f"{name}: expected dtype {self.dtype}, got {got}")
        if not self._fits(array.shape):
            least = "" if self.empty else " and not empty"
            raise SchemaError(f"{name}: expected shape {self.describe()}{least}, got {array.shape}")

    def _check_infinite(self, name: str, array: NDArray[Any]) -> None:
        if not self.nullable:
            raise SchemaError(f"{name}: expected finite numbers, got NaN or infinity")
        if np.isinf(array).any():
            raise SchemaError(f"{name}: expected finite numbers or null, got infinity")

    def _check_bounds(self, name: str, array: NDArray[Any]) -> None:
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        exact = self._dtype.type if self.kind == "f" else float  # 0.1 fits 0.1, however rounded
        with np.errstate(invalid="ignore", over="ignore"):  # ml_dtypes warns of NaN
            outside = (array < exact(low)) | (array > exact(high))
        if outside.any():
            raise SchemaError(
                f"{name}: expected numbers from {low:g} to {high:g}, got {array[outside][0]:g}"
            )

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if len(shape) != len(self.shape) or any(shape[i] != n for i, n in self._fixed):
            return False
        if not self.empty and 0 in shape:
            return False
        if len(self._fitting) < SHAPES_REMEMBERED:
            self._fitting.add(shape)
        return True

    def _from_lists(self, name: str, value: object) -> NDArray[Any]:
        if self.nullable:
            value = _nulls_as_nan(value, len(self.shape))
        try:
            given = np.array(value)
            if given.dtype.kind == "O" and all(type(each) in (int, float) for each in given.flat):
                given = given.astype("<f8")  # integers of more than 64 bits
            if given.size and dtypes.kind_of(given.dtype) not in _GIVEN.get(self.kind, ""):
                raise TypeError(f"{given.dtype} is not {self.dtype}")  # neither texts nor fractions
            with np.errstate(over="ignore"):  # `check` refuses infinity
                return np.array(given if self.kind == "f" else value, dtype=self._dtype)
        except (TypeError, ValueError, OverflowError) as error:
            values = _VALUES.get(self.kind, self.dtype)
            raise SchemaError(
                f"{name}: expected {values} of shape {self.describe()}, got {format_value(value)}"
            ) from error

    def describe(self) -> str:
        """Return the shape as a person writes it: `(batch, 2)`."""
        return "(" + ", ".join(map(str, self.shape)) + ("," if len(self.shape) == 1 else "") + ")"


def _are_finite(array: NDArray[Any]) -> bool:
    # A sum of squares is finite only if all are, and takes half the time of the check of each.
    small = array.size <= MOST_DOT_VALUES and array.dtype.char in "fd"
    if small and type(array) is np.ndarray and math.isfinite(np.vdot(array, array)):
        return True
    return bool(_all(np.isfinite(array), None))


def _nulls_as_nan(value: object, axes: int) -> object:
    if isinstance(value, list) and axes:  # deeper lists do not fit, and may be very deep
        return [_nulls_as_nan(item, axes - 1) for item in value]
    return float("nan") if value is None else value


@dataclass(frozen=True)
class Text:
    """The schema of a text, or of a list of `many`.

    among: the words that are allowed; any, if there are none.
    """

    among: tuple[str, ...] = ()
    optional: bool = False
    longest: int = 128
    many: bool = False

    def check(self, name: str, value: object) -> str | list[str]:
        """Return `value` if it fits. Raises SchemaError with what was expected."""
        if self.many and isinstance(value, list):
            return [self._one(name, item) for item in value]
        if self.many:
            raise SchemaError(f"{name}: expected {self.describe()}, got {format_value(value)}")
        return self._one(name, value)

    def _one(self, name: str, value: object) -> str:
        fits = isinstance(value, str) and len(value) <= self.longest
        if not fits or (self.among and value not in self.among):
            raise SchemaError(f"{name}: expected {self.describe()}, got {format_value(value)}")
        return str(value)

    def describe(self) -> str:
        """Return what is allowed, as a person writes it."""
        kind = "a list, each of it " if self.many else ""
        if self.among:
            return kind + " or ".join(self.among)
        return f"{kind}a text of at most {self.longest} characters"


Schema = Mapping[str, Array | Text]


@dataclass(frozen=True)
class Stream:
    """One room and one type: what its messages look like and which components consume them.

    senders: of gradients, the components that each answer the forward messages of the room: their
        gradients of one ID are added in this order, and handled as one.
    """

    room: Room
    type: str
    schema: Schema
    consumers: tuple[str, ...] = ()
    about: str = ""
    senders: tuple[str, ...] = ()
    key: tuple[str, str] = field(init=False, repr=False, compare=False)
    required: frozenset[str] = field(init=False, repr=False, compare=False)
    """The fields of the schema that are not optional."""

    def __post_init__(self) -> None:
        if taken := ENVELOPE & self.schema.keys():
            raise ContractError(
                f"{self.room} {self.type}: {', '.join(sorted(taken))} belongs to the envelope of "
                f"every message, choose another name for the field"
            )
        if self.senders and self.type != MessageType.GRADIENT:
            raise ContractError(
                f"{self.room} {self.type}: senders are added up, expected those of "
                f"{MessageType.GRADIENT.value}"
            )
        required = frozenset(name for name, each in self.schema.items() if not each.optional)
        object.__setattr__(self, "key", (self.room.name, str(self.type)))
        object.__setattr__(self, "required", required)


@dataclass(frozen=True)
class System:
    """The contract of a system: its streams and its components, as data."""

    name: str
    streams: tuple[Stream, ...]
    components: tuple[str, ...]
    before_fresh: str = field(default="", compare=False)
    """How to save what people gave to a run before `--fresh` deletes it, for error messages."""

    _by_key: dict[tuple[str, str], Stream] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {stream.key: stream for stream in self.streams})
        if len(self._by_key) < len(self.streams):
            keys = [stream.key for stream in self.streams]
            twice = ", ".join(f"{t} in {r}" for r, t in sorted(set(keys)) if keys.count((r, t)) > 1)
            raise ContractError(f"{self.name}: {twice} is declared twice")
        named = {n for stream in self.streams for n in (*stream.consumers, *stream.senders)}
        if unknown := named - set(self.components):
            raise ContractError(f"{self.name}: {sorted(unknown)} are not among its components")

    def find(self, room: str, type_: str) -> Stream | None:
        """Return the stream of a room and a TYPE, or None if the contract has none."""
        return self._by_key.get((room, type_))

    def stream(self, room: Room | str, type_: str) -> Stream:
        """Return the stream of a room and a TYPE. Raises ContractError if the contract has none."""
        found = self.find(str(room), type_)
        if found is None:
            known = ", ".join(f"{s.room} {s.type}" for s in self.streams)
            raise ContractError(f"system {self.name} has no {type_} in room {room}; it has {known}")
        return found

    def senders(self, room: str) -> tuple[str, ...]:
        """Return the components whose gradients are added up in a room, in that order."""
        found = self.find(room, MessageType.GRADIENT.value)
        return found.senders if found else ()

    def consumed_by(self, component: str) -> Iterator[Stream]:
        """Yield the streams on which `component` has a group."""
        return (stream for stream in self.streams if component in stream.consumers)

    @property
    def rooms(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stream.room.name for stream in self.streams))
