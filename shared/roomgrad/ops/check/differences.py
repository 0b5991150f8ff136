"""Directional derivatives by central differences, and whether they can be believed.

For f from inputs to outputs, a direction v and a cotangent u, the derivative at 0 of
t -> <u, f(x + t v)> is <u, J v> = <J' u, v>: what a component answers to the gradient u is J' u.
Central differences have an error of order h^2 by truncation and of order eps / h by rounding
(Nocedal and Wright, Numerical Optimization, 2nd ed., section 8.1), so several h are tried, and the
two that agree best are believed. Where none agree, the function has a kink or a jump there; so it
has where no difference is seen at small h but one is at large h, as of a function that rounds.
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
AGREE = 0.03  # two neighbours that differ by more say that there is no derivative


@dataclass(frozen=True)
class Slope:
    """A derivative along a direction, and how far its best two estimates lie apart."""

    value: float
    error: float
    smooth: bool
    flat: bool = False
    """Whether the outputs do not move at all, at any width."""


def slope(f: Callable[[Floats], Floats], x: Floats, v: Floats, u: Floats) -> Slope:
    """The derivative of <u, f(x + t v)> at t = 0; x and v `(batch, ...)`, u as f answers."""
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
    return Slope(value, gaps[best], gaps[best] <= AGREE * abs(value))
