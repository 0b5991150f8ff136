"""Batches of wind and targets, and the loss of shots at them. Pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

WIND_SCALE = 5.0  # m/s, standard deviation of the wind
TARGETS = (20.0, 100.0)  # m, range of the targets


def batch(seed: int, number: int, size: int) -> Float32:
    """Return batch `number` of a seed: float32 `(size, 2)`, wind in m/s and target in m.

    Philox is keyed by (seed, number), so any replica makes the same batch.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    wind = random.standard_normal(size) * WIND_SCALE
    target = random.uniform(*TARGETS, size)
    return np.stack([wind, target], axis=1).astype("<f4")  # (size, 2)


def squared_error(distance: Float32, target: Float32) -> tuple[float, float, Float32]:
    """Return the mean squared error in m^2, the mean miss in m, and the gradient of the error.

    Distances, targets and the gradient, in m, are float32 `(batch,)`.
    """
    off = distance - target
    size = len(off)
    loss = float(np.add.reduce(off * off, dtype=np.float64)) / size
    miss = float(np.add.reduce(np.abs(off), dtype=np.float64)) / size
    return loss, miss, off * np.float32(2.0 / size)
