"""A function that is only called: its derivatives are estimated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from roomgrad.errors import SettingsError
from roomgrad.serving.differences import MOST_NUMBERS, Floats, Points
from roomgrad.serving.functions import Array, Function

DIRECTIONS = 8  # of SPSA
GRADIENTS = ("central", "forward", "spsa")


@dataclass(frozen=True)
class Estimate:
    """How derivatives are estimated.

    central: two calls for each number of a row. forward: one, and one more; less exact.
    spsa: two for each of some random directions, however long a row is (Spall, Multivariate
        Stochastic Approximation Using a Simultaneous Perturbation Gradient Approximation, IEEE
        Transactions on Automatic Control 37, 1992); the estimate is right on average.
    """

    kind: str = "central"
    directions: int = DIRECTIONS

    @classmethod
    def of(cls, text: str) -> Estimate:
        """Return what `--gradient` names: one of `GRADIENTS`, or spsa:N. Raises SettingsError."""
        kind, colon, count = text.partition(":")
        if kind not in GRADIENTS or (colon and kind != "spsa"):
            raise SettingsError(f"--gradient {text}: there are {', '.join(GRADIENTS)}, and spsa:N")
        if colon and not (count.isascii() and count.isdecimal() and int(count)):
            raise SettingsError(f"--gradient {text}: expected directions, like spsa:{DIRECTIONS}")
        return cls(kind, int(count) if colon else DIRECTIONS)

    def __str__(self) -> str:
        if self.kind == "spsa":
            return f"SPSA in {self.directions} directions"
        return f"{self.kind} differences"


class BlackBox:
    """A function whose derivatives are estimated; rows do not depend on each other.

    scale: the size of each number of a row. together: whether the points of a difference travel as
        one larger batch.
    """

    def __init__(
        self, function: Function, estimate: Estimate, scale: Floats, *, together: bool = True
    ) -> None:
        self.kind = f"{function.kind}, differentiated by {estimate}"
        self.precise = function.precise
        self.calls = 0
        self.estimate = estimate
        self.step = 1e-3  # in units of the scale
        self.together = together
        self._function = function
        self._scale = scale

    def __call__(self, x: Array, seed: int) -> Array:
        """Return the outputs."""
        self.calls += 1
        return self._function(x, seed)

    def vjp(self, x: Array, upstream: Array, seed: int) -> Array:
        """Return the estimate of d loss / d x."""
        points = Points(self, self.together)
        base = self(x, seed) if self.estimate.kind == "forward" else None
        found = np.zeros(x.shape)
        for shifts, weights in self._directions(x, seed):
            ahead = points.at(x, shifts, seed)
            if base is None:
                change = (ahead - points.at(x, -shifts, seed)) / 2
            else:
                change = ahead - base.astype("<f8")
            by_row = (change * upstream).reshape(*shifts.shape[:2], -1).sum(axis=-1)
            found += (weights * by_row.reshape(*by_row.shape, *[1] * (x.ndim - 1))).sum(axis=0)
        return found

    def _directions(self, x: Array, seed: int) -> Iterator[tuple[Floats, Floats]]:
        """Yield shifts `(n, batch, ...)`, and the weights of the changes that they make."""
        # By error theory: the cube root of the precision for central, the square root for forward.
        step = self.step**1.5 if self.estimate.kind == "forward" else self.step
        width, size = step * self._scale, int(np.prod(x.shape[1:]))
        if self.estimate.kind == "spsa":
            count = self.estimate.directions
            signs = np.random.default_rng(seed).choice([-1.0, 1.0], (count, *x.shape))
            yield signs * width, signs / width / count
            return
        at_once = max(1, MOST_NUMBERS // max(1, x.size))
        for start in range(0, size, at_once):
            chosen = range(start, min(start + at_once, size))
            ones = np.eye(size)[chosen].reshape(-1, 1, *x.shape[1:])
            every = np.broadcast_to(ones, (len(ones), *x.shape))
            yield every * width, every / width
