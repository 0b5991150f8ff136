"""The contract of what is served: from the rooms of the run, or from a probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roomgrad import dtypes
from roomgrad.errors import ContractError, SchemaError, SettingsError
from roomgrad.rooms import Array, MessageType, Room, Stream, System

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT

BATCH = 2  # rows of a probe, so that an output that is no batch shows
OTHER_LENGTH = 5  # of axes whose length a contract leaves open


@dataclass(frozen=True)
class Passage:
    """The two rooms between which a component stands, and what their run knows of them."""

    enter: Room
    leave: Room
    system: System | None
    """The contract of the run without this component; None if it has none yet."""
    before: System | None = None
    """The contract of the run with this component, if it was served before."""

    def inputs(self, like: ArrayLike | None) -> tuple[Array, NDArray[Any]]:
        """Return the schema of DATA in room `enter`, and a batch that fits it.

        like: rows like those that will come. Raises SettingsError if nothing tells the shape.
        """
        known, rows = _data(self.system, self.enter), None if like is None else _rows(like)
        if rows is None:
            known = known or _data(self.before, self.enter)
        if known is None and rows is None:
            raise SettingsError(
                f"what room {self.enter} carries is unknown: no component of the run has declared "
                f"it; show rows like it by --like, as --like '[[3, 60]]'"
            )
        if known is None:
            assert rows is not None
            return Array(dtypes.name_of(rows.dtype), ("batch", *rows.shape[1:])), rows
        if rows is None:
            return known, _random(known)
        return known, known.check("--like", rows.astype(dtypes.from_name(known.dtype)))

    def outputs(self, name: str, found: NDArray[Any], rows: NDArray[Any]) -> Array:
        """Return the schema of DATA in room `leave` for what `name` made of some rows.

        Raises ContractError if it is no batch, or does not fit the room.
        """
        if found.ndim == 0 or len(found) != len(rows):
            raise ContractError(
                f"{name} turns {rows.shape} into {found.shape}: expected one row out for each row "
                f"in, ({len(rows)}, ...)"
            )
        known = _data(self.system, self.leave)
        if known is None:
            return Array(dtypes.name_of(found.dtype), ("batch", *found.shape[1:]))
        try:
            known.check("DATA", found.astype(dtypes.from_name(known.dtype)))
        except SchemaError as error:
            raise ContractError(
                f"{name} does not fit room {self.leave}: {error} for inputs {rows.shape}"
            ) from error
        self._check_required()
        return known

    def joined(self, name: str, run: str, inputs: Array, outputs: Array) -> System:
        """Return the contract of the component alone: its four streams."""
        streams = (
            Stream(self.enter, FORWARD, {"DATA": inputs}, (name,), f"inputs of {name}"),
            Stream(self.leave, FORWARD, {"DATA": outputs}, (), f"outputs of {name}"),
            Stream(self.leave, GRADIENT, {"DATA": _unbounded(outputs)}, (name,), "d loss / d DATA"),
            Stream(self.enter, GRADIENT, {"DATA": _unbounded(inputs)}, (), "d loss / d DATA"),
        )
        return System(run, streams, (name,))

    def _check_required(self) -> None:
        assert self.system is not None
        schema = self.system.stream(self.leave, FORWARD).schema
        if missing := [n for n, each in schema.items() if n != "DATA" and not each.optional]:
            raise ContractError(
                f"messages of room {self.leave} need {', '.join(missing)} beside DATA, which one "
                f"array cannot give: write a component with handlers"
            )


def _data(system: System | None, room: Room) -> Array | None:
    """Return the schema of DATA in the forward messages of a room, if it is known."""
    stream = system.find(room.name, FORWARD) if system else None
    schema = stream.schema.get("DATA") if stream else None
    return schema if isinstance(schema, Array) else None


def _unbounded(schema: Array) -> Array:
    return Array(schema.dtype, schema.shape)


def _rows(like: ArrayLike) -> NDArray[Any]:
    """Return a batch like these rows; lists of numbers are float32. Raises SettingsError."""
    try:
        found = np.asarray(like) if hasattr(like, "dtype") else np.asarray(like, "<f4")
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"--like: expected rows of numbers, like '[[3, 60]]': {error}"
        ) from None
    if dtypes.name_of(found.dtype) not in dtypes.NAMES:
        raise SettingsError(f"--like: expected {', '.join(dtypes.NAMES)}, got {found.dtype.str}")
    if found.ndim == 0 or not found.size:
        raise SettingsError(f"--like: expected rows, like '[[3, 60]]', got shape {found.shape}")
    return np.concatenate([found] * BATCH) if len(found) < BATCH else found


def _random(schema: Array) -> NDArray[Any]:
    """Return a batch that fits a schema."""
    random = np.random.default_rng(0)
    axes = [n if isinstance(n, int) else OTHER_LENGTH for n in schema.shape]
    shape = [BATCH if isinstance(schema.shape[0], str) else axes[0], *axes[1:]] if axes else []
    dtype, (low, high) = dtypes.from_name(schema.dtype), (schema.low, schema.high)
    if schema.kind != "f":
        return random.integers(int(low or 0), int(1 if high is None else high), shape).astype(dtype)
    if low is not None and high is not None:
        return random.uniform(low, high, shape).astype(dtype)
    return random.normal(size=shape).astype(dtype)
