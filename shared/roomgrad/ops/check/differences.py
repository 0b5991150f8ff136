"""Directional derivatives by central differences, with an estimate of their error.

For f from inputs to outputs, a direction v and a cotangent u, the derivative at 0 of
t -> <u, f(x + t v)> is <u, J v> = <J' u, v>, and J' u is the component's answer to the gradient u.
Central differences have a truncation error of order h^2 and a rounding error of order eps / h
(Nocedal and Wright, Numerical Optimization, 2nd ed., section 8.1), so several h are tried, and the
two neighbors that agree best are used. If none agree, the function has a kink or a jump there; so
it has if the difference is zero at small h only, as of a function that rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

STEPS = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # in units of the inputs' scale
MAX_GAP = 0.03  # relative; if all neighbors differ by more, there is no derivative


@dataclass(frozen=True)
class Slopes:
    """Derivatives along some directions, at several steps."""

    by_step: NDArray[np.float64]
    """`(steps, directions)`."""

    steps: Sequence[float] = STEPS

    @property
    def gaps(self) -> NDArray[np.float64]:
        """How much neighboring steps differ: `(steps - 1, directions)`.

        Steps that round to nothing agree that the derivative is zero, which does not count.
        """
        zero = (self.by_step == 0) & (self.by_step != 0).any(axis=0)
        found: NDArray[np.float64] = np.abs(np.diff(self.by_step, axis=0))
        return np.asarray(np.where(zero[:-1] & zero[1:], np.inf, found))

    @property
    def best(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each derivative by the two steps that agree best, and how much they differ."""
        gaps, which = self.gaps, np.arange(self.by_step.shape[1])
        chosen = gaps.argmin(axis=0)
        values = (self.by_step[chosen, which] + self.by_step[chosen + 1, which]) / 2
        return values, gaps[chosen, which]

    @property
    def smooth(self) -> NDArray[np.bool_]:
        """Whether there is a derivative: not where no steps agree, as at a kink or with noise."""
        values, gaps = self.best
        size = np.abs(values)
        return np.asarray(gaps <= MAX_GAP * np.maximum(size, 0.01 * size.max(initial=0.0)))

    @property
    def step(self) -> float:
        """The step with which most derivatives agree with those of the next one."""
        size = np.abs(self.best[0]).max(initial=0.0) or 1.0
        return self.steps[int(np.median(self.gaps / size, axis=1).argmin()) + 1]


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
    sums = []
    for step in STEPS:
        up, down = (f((x + sign * step * v).astype(x.dtype)) for sign in (1, -1))
        sums.append(float(np.sum(u * (up - down))) / (2 * step))
    found = Slopes(np.array(sums)[:, None])
    (value,), (error,) = found.best
    smooth = bool(found.smooth[0] and np.isfinite(found.gaps).all())
    return Slope(float(value), float(error), smooth, flat=not any(sums))
