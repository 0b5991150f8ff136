"""Directional derivatives by central differences, with an estimate of their error.

For f from inputs to outputs, a direction v and a cotangent u, the derivative at 0 of
t -> <u, f(x + t v)> is <u, J v> = <J' u, v>, and J' u is the component's answer to the gradient u.
Central differences have a truncation error of order h^2 and a rounding error of order eps / h
(Nocedal and Wright, Numerical Optimization, 2nd ed., section 8.1), so several h are tried, and the
two neighbors that agree best are used. If none agree, the function has a kink or a jump there; so
it has if the difference is zero at small h only, as of a function that rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # in units of the inputs' scale
MAX_GAP = 0.03  # relative; if all neighbors differ by more, there is no derivative


@dataclass(frozen=True)
class Slope:
    """A derivative along a direction. error: the difference of the two best estimates."""

    value: float
    error: float
    smooth: bool
    flat: bool = False
    """Whether the outputs are constant, at every step."""


def slope(f: Callable[[Floats], Floats], x: Floats, v: Floats, u: Floats) -> Slope:
    """Return the derivative of <u, f(x + t v)> at t = 0.

    x, v: `(batch, ...)`. u: the shape of the outputs.
    """
    estimates = []
    for step in STEPS:
        up, down = (f((x + sign * step * v).astype(x.dtype)) for sign in (1, -1))
        estimates.append(float(np.sum(u * (up - down))) / (2 * step))
    gaps = [abs(a - b) for a, b in pairwise(estimates)]
    best = int(np.argmin(gaps))
    value = (estimates[best] + estimates[best + 1]) / 2
    if value == 0.0:
        flat = not any(estimates)
        return Slope(0.0, 0.0, smooth=flat, flat=flat)
    return Slope(value, gaps[best], gaps[best] <= MAX_GAP * abs(value))
