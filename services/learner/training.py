"""What evalnet is trained on, and how far off it was. Pure functions of numpy arrays.

Every time that a label is trained on, its melody has its bars in another order: the network is to
learn what bars are liked, not the melodies by heart. Measured at 340 labels, that brings the mean
absolute error from 0.53 down to 0.44; one variant at a time does as well as three, which make the
steps steadier. Mixing the bars of two melodies, with a rating between theirs, made it worse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import BARS, BITS, Genomes

Float32 = NDArray[np.float32]
Integers = NDArray[np.int64]

RATINGS = 6
EPOCHS = 10
BATCH_SIZE = 20
AUGMENT = 3
"""Variants of each label in its batch; each has its bars in an order of its own."""
WIDTH = 0.4
"""Standard deviation of the targets around a rating, in ratings; 0.3 to 0.5 do alike."""

ORDER, VARIANTS = 2, 3  # what random numbers are drawn for; 0 and 1 are genomes and breeding


def batches(n: int, batch_size: int = BATCH_SIZE, epochs: int = EPOCHS) -> int:
    """How many batches a training on `n` labels has."""
    return -(-n // batch_size) * epochs


def soft_targets(ratings: Integers, width: float = WIDTH) -> Float32:
    """Targets of `(n,)` ratings 0 to 5: float32 `(n, 6)`, normal around the rating."""
    distance = np.arange(RATINGS) - np.asarray(ratings)[:, None]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def draws(seed: int, chain: int, number: int, purpose: int) -> np.random.Generator:
    """Random numbers that depend on these four alone."""
    philox = np.random.Philox(key=[seed, chain], counter=[0, 0, number, purpose])
    return np.random.Generator(philox)


def variants(genomes: Genomes, augment: int, random: np.random.Generator) -> Genomes:
    """Each of `(n, 128)` `augment` times, `(augment * n, 128)`, with its bars in random orders."""
    bars = np.tile(genomes.reshape(len(genomes), BARS, BITS // BARS), (augment, 1, 1))
    orders = random.permuted(np.tile(np.arange(BARS), (len(bars), 1)), axis=1)
    return np.asarray(bars[np.arange(len(bars))[:, None], orders].reshape(-1, BITS))


def batch(
    genomes: Genomes,
    ratings: Integers,
    seed: int,
    chain: int,
    number: int,
    batch_size: int = BATCH_SIZE,
    augment: int = AUGMENT,
) -> tuple[Float32, Float32]:
    """Batch `number` of training `chain` on `(n, 128)` canonical genomes and `(n,)` ratings.

    Returns rows `(b, 128)` and targets `(b, 6)`, b being `augment` times up to `batch_size`. Philox
    is keyed by (seed, chain), so any replica makes the same batch at any time.
    """
    turns = batches(len(genomes), batch_size, 1)
    epoch, turn = divmod(number, turns)
    order = draws(seed, chain, epoch, ORDER).permutation(len(genomes))
    chosen = order[turn * batch_size : (turn + 1) * batch_size]
    rows = variants(genomes[chosen], augment, draws(seed, chain, number, VARIANTS))
    targets = np.tile(soft_targets(ratings[chosen]), (augment, 1))
    return rows.astype("<f4"), targets


def cross_entropy(logits: Float32, targets: Float32) -> tuple[float, Float32]:
    """Mean cross entropy (nats) of `(b, 6)` logits, and its gradient float32 `(b, 6)`."""
    rows = np.asarray(logits, dtype=np.float64)
    shifted = rows - rows.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    loss = -float((targets * (shifted - np.log(total))).sum()) / len(rows)
    gradient = (powers / total - targets) / len(rows)
    return loss, gradient.astype("<f4")
