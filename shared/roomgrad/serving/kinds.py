"""Which kind of function an object is."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.serving.functions import Array, Function, NumpyFunction
from roomgrad.serving.program import Program


def function_of(
    name: str,
    target: Callable[..., Any],
    rows: Array,
    *,
    vjp: Callable[..., Any] | None = None,
    differentiate: bool = True,
) -> tuple[Function, Array]:
    """Return the function that `target` is, and its outputs for some rows.

    It is the first of torch, JAX and numpy that computes, and differentiates, those rows; torch and
    JAX only if the program has imported them.

    vjp: that of a numpy function. differentiate: whether a gradient is needed; without it, numpy is
        tried first, as it computes in float64.

    Raises SettingsError if it is none of them.
    """
    reasons = []
    found = _candidates(target, vjp)
    for function in found if differentiate else reversed(found):
        try:
            return function, _tried(function, rows, differentiate)
        except RoomgradError:
            raise
        except Exception as error:
            reasons.append(f"as {function.kind}: {type(error).__name__}: {error}")
    raise SettingsError(
        f"{name} cannot be called with rows of shape {rows.shape}, expected a function of one "
        f"array (batch, ...); " + "; ".join(reasons)
    )


def _tried(function: Function, rows: Array, differentiate: bool) -> Array:
    """Return the outputs for some rows, if there is a gradient, too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "__array_wrap__")  # numpy was called with a tensor
        outputs = function(rows, 0)
        if differentiate and not isinstance(function, NumpyFunction):
            function.vjp(rows, np.ones_like(outputs), 0)
    return outputs


def _candidates(target: Callable[..., Any], vjp: Callable[..., Any] | None) -> list[Function]:
    if isinstance(target, Program):
        program = NumpyFunction(target)
        program.kind = "a program"
        return [program]
    found: list[Function] = []
    if vjp is None and "torch" in sys.modules:
        from roomgrad.serving.torch_function import TorchFunction

        found.append(TorchFunction(target))
    if vjp is None and "jax" in sys.modules:
        from roomgrad.serving.jax_function import JaxFunction

        found.append(JaxFunction(target))
    return [*found, NumpyFunction(target, vjp)]
