"""What is learned, without torch: sizes of the network, batches, and a loss that costs nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

# By how much the hidden layers of the trebuchet's network, 16, 64 and 16 units, are widened.
WIDENINGS = {"2210": 1, "1m": 22, "9m": 66, "81m": 199}
TREBUCHET = 1  # the trebuchet itself, with its simulator, and not the loss below
ROWS = 100
RATE = 1e-3


def widths(widening: int) -> tuple[int, ...]:
    """Return the units of each layer, inputs and outputs included."""
    return (2, 16 * widening, 64 * widening, 16 * widening, 2)


def parameters(widening: int) -> int:
    """Return how many weights and biases such a network has."""
    units = widths(widening)
    return sum((before + 1) * after for before, after in pairwise(units))


def batch(number: int) -> Float32:
    """Return the inputs `(100, 2)` of a batch."""
    random = np.random.Generator(np.random.Philox(key=[0, number]))
    return random.standard_normal((ROWS, 2), np.float32)


def loss_gradient(outputs: Float32, inputs: Float32) -> Float32:
    """Return d loss / d outputs `(100, 2)` of the mean squared distance to the inputs' sines."""
    return (outputs - np.sin(inputs)) * np.float32(2.0 / outputs.size)
