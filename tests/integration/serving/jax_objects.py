"""The throw as a JAX function."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def throw(x: Any) -> Any:
    wind, angle, speed = x.T
    return (25 + 5 * speed) ** 2 / 9.81 * jnp.sin(angle) + wind


def gusty(x: Any, seed: Any) -> Any:
    """The same with wind that the seed draws."""
    return throw(x) + jax.random.normal(jax.random.key(seed), len(x))


def branching(x: Any) -> Any:
    """A function that JAX cannot trace."""
    return throw(x) if x[0, 0] > 1e6 else throw(x) * 1.0
