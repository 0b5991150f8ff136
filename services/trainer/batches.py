"""What the trebuchet is asked to hit, and how far off it was. Pure functions of numpy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

WIND_SCALE = 5.0  # m/s, standard deviation of the wind
TARGETS = (20.0, 100.0)  # m, range of the targets


def batch(seed: int, number: int, size: int) -> Float32:
    """Batch `number` of a seed: `(size, 2)` float32 of wind m/s and target m.

    Philox is keyed by (seed, number), so any replica makes the same batch at any time.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    wind = random.standard_normal(size) * WIND_SCALE
    target = random.uniform(*TARGETS, size)
    return np.stack([wind, target], axis=1).astype("<f4")  # (size, 2)


def squared_error(distance: Float32, target: Float32) -> tuple[float, float, Float32]:
    """Mean squared error (m2), mean miss (m) and the gradient of the first, all of `(batch,)`."""
    off = distance - target
    size = len(off)
    loss = float(np.add.reduce(off * off, dtype=np.float64)) / size
    miss = float(np.add.reduce(np.abs(off), dtype=np.float64)) / size
    return loss, miss, off * np.float32(2.0 / size)
