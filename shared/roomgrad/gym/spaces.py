"""Spaces of gymnasium as arrays of a contract, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from roomgrad import dtypes
from roomgrad.errors import SettingsError
from roomgrad.rooms import Array

KINDS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def array_of(space: spaces.Space[Any], envs: int) -> Array:
    """Return the schema of a batch `(envs, ...)`. Raises SettingsError for a space without one."""
    if not isinstance(space, KINDS) or dtypes.name_of(np.dtype(space.dtype)) not in dtypes.NAMES:
        raise SettingsError(
            f"{space} is no space of one array: expected Box, Discrete, MultiDiscrete or "
            f"MultiBinary of {', '.join(dtypes.NAMES)}; gymnasium.wrappers.FlattenObservation and "
            f"TransformAction make one"
        )
    low, high = _bounds(space)
    return Array(
        dtypes.name_of(np.dtype(space.dtype)),
        (envs, *(space.shape or ())),
        low=float(low) if np.isfinite(low) else None,
        high=float(high) if np.isfinite(high) else None,
    )


def _bounds(space: spaces.Space[Any]) -> tuple[Any, Any]:
    """Return the least and the greatest number of a space."""
    if isinstance(space, spaces.Box):
        return np.min(space.low), np.max(space.high)
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n - 1
    if isinstance(space, spaces.MultiDiscrete):
        return np.min(space.start), np.max(space.start + space.nvec - 1)
    return 0, 1


def space_of(schema: Array) -> spaces.Space[Any]:
    """Return the space of one row of an array: Discrete if it is one bounded integer, else Box."""
    shape = tuple(n for n in schema.shape[1:] if isinstance(n, int))
    low, high = schema.low, schema.high
    if schema.kind == "i" and not shape and low is not None and high is not None:
        return spaces.Discrete(int(high - low) + 1, start=int(low))
    dtype = dtypes.from_name(schema.dtype)
    least, most = (-np.inf, np.inf) if schema.kind == "f" else _limits(dtype)
    return spaces.Box(
        least if low is None else dtype.type(low),
        most if high is None else dtype.type(high),
        shape,
        dtype.type,
    )


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    return (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
