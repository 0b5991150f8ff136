"""How good the gradient of what is served is, in one line."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roomgrad import dtypes
from roomgrad.ops.check.differences import Slopes
from roomgrad.serving.black_box import BlackBox
from roomgrad.serving.differences import STEPS, Points, slopes
from roomgrad.serving.functions import Array, Function

MOST_ELEMENTS = 8
REPEATS = 8  # gradients of one input, for their variance
LONG_S = 2.0  # what the comparison may take, if each row takes as long as those of the probe
TOLERANCE = 0.01


@dataclass(frozen=True)
class Noise:
    """Whether a function gives different outputs for one input."""

    random: bool
    """With different seeds, or at all."""

    repeats: bool
    """Whether it gives the same for the same seed."""

    @classmethod
    def of(cls, function: Function, rows: Array) -> Noise:
        """Call a function three times."""
        first, again, other = (function(rows, seed) for seed in (0, 0, 1))
        repeats = bool(np.array_equal(first, again, equal_nan=True))
        return cls(not (repeats and np.array_equal(first, other, equal_nan=True)), repeats)

    @property
    def needs_common_numbers(self) -> bool:
        """Whether each point must be a batch of its own, to draw the same random numbers."""
        return self.random and self.repeats


@dataclass(frozen=True)
class Quality:
    """How far a gradient is from differences, and where most."""

    error: float
    """The largest difference, relative to the largest derivative."""

    element: tuple[int, ...]
    returned: float
    expected: float
    compared: int
    """How many derivatives were compared; others are at kinks, or too noisy."""

    spread: float
    """Standard deviation of the gradient, relative to its size."""

    random: bool = False
    """Whether the gradient is right on average only."""

    @property
    def good(self) -> bool:
        """Whether no derivative differs by more than 1 %."""
        return self.random or self.error <= TOLERANCE

    def __str__(self) -> str:
        if self.random:
            return f"right on average, standard deviation {self.spread:.0%}"
        noise = f"; standard deviation {self.spread:.1%}" if self.spread else ""
        if not self.compared:
            return f"nothing to compare with, as it jumps, rounds, or is noisy without seed{noise}"
        if self.good:
            return f"within {self.error:.2%} of central differences{noise}"
        where = f"DATA[{', '.join(map(str, self.element))}]"
        return (
            f"differs from central differences by {self.error:.1%}, most at {where}: "
            f"{self.returned:.4g}, expected {self.expected:.4g}{noise}"
        )


def measure(function: Function, rows: Array, outputs: Array, noise: Noise) -> Quality | None:
    """Compare the gradient of a function at some rows with differences; choose a black box's step.

    Returns None for integers, which have no gradient.
    """
    if dtypes.kind_of(rows.dtype) != "f" or not rows.size:
        return None
    upstream = np.random.default_rng(0).normal(size=outputs.shape).astype(outputs.dtype)
    points = Points(function, together=not noise.needs_common_numbers)
    elements = _elements(function, rows)
    expected = slopes(points, rows, upstream, elements)
    if isinstance(function, BlackBox):
        function.step = expected.step if noise.repeats else STEPS[0]
    random = isinstance(function, BlackBox) and function.estimate.kind == "spsa"
    seeds = range(REPEATS if random or noise.random else 1)
    found = np.array([function.vjp(rows, upstream, seed).astype("<f8") for seed in seeds])
    quality = replace(_compared(expected, found, elements, rows.shape), random=random)
    return quality if noise.repeats else replace(quality, error=0.0, compared=0)


def _elements(function: Function, rows: Array) -> NDArray[np.intp]:
    """Return which derivatives are compared: fewer if the function is slow."""
    began = time.monotonic()
    function(rows, 0)
    seconds = (time.monotonic() - began) * 2 * len(STEPS)
    count = int(np.clip(LONG_S / max(seconds, 1e-6), 1, min(MOST_ELEMENTS, rows.size)))
    return np.sort(np.random.default_rng(0).choice(rows.size, count, replace=False))


def _compared(
    expected: Slopes,
    found: NDArray[np.float64],
    elements: NDArray[np.intp],
    shape: tuple[int, ...],
) -> Quality:
    values, gaps = expected.best
    returned = found.reshape(len(found), -1)[0, elements]
    mean = float(np.linalg.norm(found.mean(axis=0)))
    spread = float(np.linalg.norm(found.std(axis=0))) / max(mean, 1e-300)
    smooth = expected.smooth
    size = max(np.abs(values).max(initial=0.0), np.abs(returned).max(initial=0.0), 1e-300)
    errors = np.where(smooth, np.maximum(np.abs(returned - values) - gaps, 0.0), 0.0) / size
    worst = int(errors.argmax())
    element = tuple(int(each) for each in np.unravel_index(elements[worst], shape))
    return Quality(
        float(errors[worst]),
        element,
        float(returned[worst]),
        float(values[worst]),
        int(smooth.sum()),
        spread,
    )
