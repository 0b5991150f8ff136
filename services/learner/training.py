"""Training batches of evalnet, and its loss. Pure functions of numpy arrays.

Each time a label is trained on, the bars of its melody are shuffled: the network should learn which
bars are liked instead of memorizing melodies. At 340 labels, that lowers the mean absolute error
from 0.53 to 0.44. One variant at a time does as well as three, which make the steps steadier.
Mixing the bars of two melodies, with a rating between theirs, made it worse.
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
"""Variants of each label in its batch, each with its bars in a random order."""
WIDTH = 0.4
"""Standard deviation of the targets around a rating, in ratings; 0.3 to 0.5 do equally well."""

ORDER, VARIANTS = 2, 3  # purposes of random numbers; 0 and 1 are genomes and breeding


def batches(n: int, batch_size: int = BATCH_SIZE, epochs: int = EPOCHS) -> int:
    """Return the number of batches of a training run on `n` labels."""
    return -(-n // batch_size) * epochs


def soft_targets(ratings: Integers, width: float = WIDTH) -> Float32:
    """Return the targets of `(n,)` ratings 0 to 5: float32 `(n, 6)`, normal around the rating."""
    distance = np.arange(RATINGS) - np.asarray(ratings)[:, None]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def draws(seed: int, run: int, number: int, purpose: int) -> np.random.Generator:
    """Return random numbers that depend on these four numbers alone."""
    philox = np.random.Philox(key=[seed, run], counter=[0, 0, number, purpose])
    return np.random.Generator(philox)


def variants(genomes: Genomes, augment: int, random: np.random.Generator) -> Genomes:
    """Repeat `(n, 128)` genomes with their bars in random orders: `(augment * n, 128)`."""
    bars = np.tile(genomes.reshape(len(genomes), BARS, BITS // BARS), (augment, 1, 1))
    orders = random.permuted(np.tile(np.arange(BARS), (len(bars), 1)), axis=1)
    return np.asarray(bars[np.arange(len(bars))[:, None], orders].reshape(-1, BITS))


def batch(
    genomes: Genomes,
    ratings: Integers,
    seed: int,
    run: int,
    number: int,
    batch_size: int = BATCH_SIZE,
    augment: int = AUGMENT,
) -> tuple[Float32, Float32]:
    """Return batch `number` of a training run on `(n, 128)` canonical genomes and `(n,)` ratings.

    Returns rows float32 `(b, 128)` and targets float32 `(b, 6)`; b is `augment` times at most
    `batch_size`. Philox is keyed by (seed, run), so any replica makes the same batch.
    """
    turns = batches(len(genomes), batch_size, 1)
    epoch, turn = divmod(number, turns)
    order = draws(seed, run, epoch, ORDER).permutation(len(genomes))
    chosen = order[turn * batch_size : (turn + 1) * batch_size]
    rows = variants(genomes[chosen], augment, draws(seed, run, number, VARIANTS))
    targets = np.tile(soft_targets(ratings[chosen]), (augment, 1))
    return rows.astype("<f4"), targets


def cross_entropy(logits: Float32, targets: Float32) -> tuple[float, Float32]:
    """Return the mean cross entropy of `(b, 6)` logits in nats, and its gradient, float32."""
    rows = np.asarray(logits, dtype=np.float64)
    shifted = rows - rows.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    loss = -float((targets * (shifted - np.log(total))).sum()) / len(rows)
    gradient = (powers / total - targets) / len(rows)
    return loss, gradient.astype("<f4")
