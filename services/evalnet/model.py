"""The evaluation network: a melody in, six logits out, one for each rating 0 to 5.

A few hundred labels are far too few for 50,000 random weights, which would memorize them. This
network is initialized to decode the genome, and has to learn only what is liked. It knows nothing
of the rater, only how 128 bits are a melody:

- layer 1 decodes: unit (slot, degree) is 1 when this slot holds this degree, else 0;
- layer 2 counts: its first half is how often each degree is at each of the four places of a
  bar, in all bars alike; its second half is 0 and free to learn;
- layer 3 starts near 0, and layer 4 reads a number z from it: the logits are those of a normal
  distribution around z, so neighboring ratings have similar logits.

What was tried, as mean absolute error at 340 labels of a simulated rater, where this recipe has
0.44 (one to three seeds each, which is enough for such differences): PyTorch's own start 0.59,
behind the decoder 0.54, random weights in layer 2, shared over bars or not, 0.48 to 0.65 at all
rates and activations tried. Counts have to come centred and almost undistorted, since otherwise
the first steps push every degree alike and hundreds of steps unlearn it (0.92 instead of 0.53 at
100 labels); hence the leaky activation of layer 2 and its bias. A rate that does not fall costs
0.01 to 0.04.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from roomgrad_melody.genome import BARS, BITS, REST, SLOT_BITS, SLOTS, SLOTS_PER_BAR

RATINGS = 6
DEGREES = REST
DECODED = SLOTS * DEGREES  # 256
PLACES = SLOTS_PER_BAR * DEGREES  # 32
COUNTED, HIDDEN = 64, 16

# Larger activations and smaller weights after them make a layer learn faster than the ones before.
GAIN = 3.0
MARGIN = 2.0  # distance of one wrong bit from activating a unit of the decoder, in units of its 1
LEAK = 0.9
CENTER = 0.53  # mean count in random melodies: 0.5 of 8 bars, shifted by the leaky activation
START = 0.01  # initial standard deviation of the input of layer 3's activation
READ = 2.0  # ratings per unit of layer 3
SIGMA = 0.6  # ratings; initial standard deviation of the prediction

LEARNING_RATE = 6e-4
HALVED = 150  # steps after which the rate has halved
LOWEST_RATE = 1e-5  # from about 9,000 steps on


def decode(layer: nn.Linear) -> None:
    """Initialize layer 1: unit slot * 8 + degree is GAIN for this degree in this slot.

    For any other value it is at most GAIN * (1 - MARGIN) before the activation. A rest differs from
    every degree in its highest bit.
    """
    layer.weight.zero_()
    for slot in range(SLOTS):
        for degree in range(DEGREES):
            unit = slot * DEGREES + degree
            bits = torch.tensor([float(degree >> bit & 1) for bit in range(SLOT_BITS)])
            first = slot * SLOT_BITS
            layer.weight[unit, first : first + SLOT_BITS] = GAIN * MARGIN * (2.0 * bits - 1.0)
            layer.bias[unit] = GAIN * (1.0 - MARGIN * float(bits.sum()))


def count(layer: nn.Linear) -> None:
    """Initialize layer 2: 32 units are GAIN times the centered number of bars with a degree."""
    layer.weight.zero_()
    layer.bias.zero_()
    layer.weight[:PLACES] = torch.eye(PLACES).repeat(1, BARS)
    layer.bias[:PLACES] = -CENTER * GAIN


def read(layer: nn.Linear) -> None:
    """Initialize layer 4: logits k z / s^2 - k^2 / (2 s^2) of ratings k around the middle.

    z is the sum of the units with alternating signs, s is SIGMA.
    """
    ratings = torch.arange(float(RATINGS)) - (RATINGS - 1) / 2.0
    signs = 1.0 - 2.0 * (torch.arange(HIDDEN) % 2)
    layer.weight.copy_(ratings[:, None] * signs * READ / SIGMA**2)
    layer.bias.copy_(-0.5 * (ratings / SIGMA) ** 2)


class EvalNetwork(nn.Module):
    """A network of 128-256-64-16-6 units."""

    def __init__(self) -> None:
        super().__init__()
        decoder, counter = nn.Linear(BITS, DECODED), nn.Linear(DECODED, COUNTED)
        hidden, reader = nn.Linear(COUNTED, HIDDEN), nn.Linear(HIDDEN, RATINGS)
        with torch.no_grad():
            decode(decoder)
            count(counter)
            hidden.weight.normal_(0.0, START / GAIN / math.sqrt(COUNTED / 2.0))
            hidden.bias.zero_()
            read(reader)
        self.layers = nn.Sequential(
            decoder, nn.ReLU(), counter, nn.LeakyReLU(LEAK), hidden, nn.Tanh(), reader
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits `(batch, 6)` for genomes, float32 `(batch, 128)`, as they sound."""
        logits: Tensor = self.layers(canonical(inputs))
        return logits


def canonical(genomes: Tensor) -> Tensor:
    """Return genomes with the silent bits of rests zeroed; gradients pass through unchanged."""
    slots = (genomes > 0.5).to(genomes.dtype).reshape(-1, SLOTS, SLOT_BITS)
    slots[..., :-1] *= 1.0 - slots[..., -1:]
    return slots.reshape(-1, BITS) + (genomes - genomes.detach())


def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of the network."""
    return torch.optim.Adam(parameters, lr=LEARNING_RATE)


def schedule(optimizer: torch.optim.Optimizer) -> LambdaLR:
    """Return the learning rate by step, counted over all training runs.

    It decays as 1 / (1 + step / 150): labels are repeated in each training run, and a constant rate
    would memorize them. It does not decay to 0, as raters go on.
    """
    lowest = LOWEST_RATE / LEARNING_RATE
    return LambdaLR(optimizer, lambda step: max(1.0 / (1.0 + step / HALVED), lowest))


def probabilities(logits: ArrayLike) -> NDArray[np.float64]:
    """Return the softmax of `(n, 6)` logits, float64 `(n, 6)`."""
    rows = np.asarray(logits, dtype=np.float64)
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def expected(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the expected ratings of `(n, 6)` probabilities, float64 `(n,)` in [0, 5]."""
    return probs @ np.arange(RATINGS, dtype=np.float64)
