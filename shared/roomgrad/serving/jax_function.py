"""A JAX function: its vector-Jacobian product is that of `jax.vjp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from roomgrad.errors import format_value
from roomgrad.serving.functions import Array, Seeded


class JaxFunction:
    """A function of JAX arrays, compiled; it may make a key of the `seed` that it takes."""

    kind, precise = "a JAX function", False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.calls = 0
        self._function = Seeded(function)
        self._compiled = jax.jit(self._outputs)
        self._compiled_vjp = jax.jit(self._pulled_back)

    def __call__(self, x: Array, seed: int) -> Array:
        """Return the outputs."""
        return np.asarray(self._compiled(x, seed))

    def vjp(self, x: Array, upstream: Array, seed: int) -> Array:
        """Return the gradient of x."""
        return np.asarray(self._compiled_vjp(x, upstream, seed))

    def _outputs(self, x: Any, seed: Any) -> Any:
        found = self._function(x, seed=seed)
        if not isinstance(found, jax.Array):
            raise TypeError(f"it returned {format_value(found)}, expected an array (batch, ...)")
        return found

    def _pulled_back(self, x: Any, upstream: Any, seed: Any) -> Any:
        outputs, pull_back = jax.vjp(lambda x: self._outputs(x, seed), x)
        return pull_back(upstream.astype(outputs.dtype))[0]
