"""Derivatives by differences, at several points of a function at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roomgrad.ops.check.differences import Slopes
from roomgrad.serving.functions import Array, Function

Floats = NDArray[np.float64]

STEPS = (0.1, 0.03, 0.01, 0.003, 0.001, 1e-4, 1e-5, 1e-6)  # in units of the inputs' scale
COARSE = STEPS[:5]  # of functions that compute in float32 or less
MOST_NUMBERS = 2**22  # of the rows of one call


@dataclass(frozen=True)
class Points:
    """A function at many points.

    together: whether points travel as one larger batch. If not, each is a batch of its own: a
        function that draws by a seed then draws the same at each (common random numbers).
    """

    function: Function
    together: bool = True

    def at(self, x: Array, shifts: Floats, seed: int) -> Floats:
        """Return the outputs `(n, batch, ...)` at x plus each of the shifts `(n, batch, ...)`."""
        size = max(1, MOST_NUMBERS // max(1, x.size)) if self.together else 1
        parts = [shifts[start : start + size] for start in range(0, len(shifts), size)]
        return np.concatenate([self._at_once(x, part, seed) for part in parts])

    def _at_once(self, x: Array, shifts: Floats, seed: int) -> Floats:
        points = x.astype("<f8") + shifts
        if not self.function.precise:
            points = points.astype(x.dtype)
        outputs = self.function(points.reshape(-1, *x.shape[1:]), seed)
        return np.asarray(outputs.reshape(len(shifts), len(x), *outputs.shape[1:]), dtype="<f8")


def scale_of(rows: Array) -> Floats:
    """Return the size of each column of some rows: the mean of its absolute values, 1 for zeros."""
    found = np.abs(rows.astype("<f8")).mean(axis=0)
    return np.asarray(np.where(found > 0, found, 1.0))


def slopes(points: Points, x: Array, upstream: Array, elements: NDArray[np.intp]) -> Slopes:
    """Return central differences of the sum of upstream * outputs by elements of x."""
    steps = STEPS if points.function.precise or x.dtype.itemsize > 4 else COARSE
    scale = np.broadcast_to(scale_of(x), x.shape).ravel()[elements]
    shifts = np.zeros((len(steps), 2, len(elements), x.size))
    for number, step in enumerate(steps):
        shifts[number, 0, range(len(elements)), elements] = step * scale
    shifts[:, 1] = -shifts[:, 0]
    found = points.at(x, shifts.reshape(-1, *x.shape), seed=0)
    sums = (found * upstream).reshape(len(steps), 2, len(elements), -1).sum(axis=-1)
    widths = 2 * np.array(steps)[:, None] * scale
    return Slopes((sums[:, 0] - sums[:, 1]) / widths, steps)
