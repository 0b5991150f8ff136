"""A function of a batch of rows, and its vector-Jacobian product, whatever it is written in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from roomgrad import dtypes
from roomgrad.errors import format_value

Array = NDArray[Any]


class Function(Protocol):
    """A function of rows `(batch, ...)` that are independent of each other."""

    kind: str
    """What it is, for people."""

    precise: bool
    """Whether it computes in float64 whatever the dtype on the wire."""

    calls: int
    """How often a black box was called."""

    def __call__(self, x: Array, seed: int) -> Array:
        """Return the outputs `(batch, ...)`; the same seed draws the same random numbers."""

    def vjp(self, x: Array, upstream: Array, seed: int) -> Array:
        """Return d loss / d x for d loss / d outputs."""


class Seeded:
    """A function that is called with `seed=` if it takes one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._takes_seed = takes_seed(function)

    def __call__(self, *arguments: Any, seed: int) -> Any:
        if self._takes_seed:
            return self._function(*arguments, seed=seed)
        return self._function(*arguments)


class NumpyFunction:
    """A function of float64 arrays; integers come as they are.

    vjp: called as `vjp(x, upstream)`, returns d loss / d x.
    """

    kind, precise = "a numpy function", True

    def __init__(self, function: Callable[..., Any], vjp: Callable[..., Any] | None = None) -> None:
        self.calls = 0
        self._function = Seeded(function)
        self._vjp = None if vjp is None else Seeded(vjp)

    def __call__(self, x: Array, seed: int) -> Array:
        """Return the outputs as an array."""
        return _array(self._function(_precise(x), seed=seed))

    def vjp(self, x: Array, upstream: Array, seed: int) -> Array:
        """Return what the function `vjp` returns."""
        assert self._vjp is not None, "a function without vjp is a black box"
        return _array(self._vjp(_precise(x), _precise(upstream), seed=seed))


def takes_seed(function: Callable[..., Any]) -> bool:
    """Return whether a function has a parameter `seed`."""
    try:
        return "seed" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a function in C
        return False


def _precise(x: Array) -> Array:
    return x.astype("<f8") if dtypes.kind_of(x.dtype) == "f" else x


def _array(value: object) -> Array:
    found = np.asarray(value)
    if dtypes.kind_of(found.dtype) not in "fiub" or not found.ndim:
        raise TypeError(f"it returned {format_value(value)}, expected an array (batch, ...)")
    return found
