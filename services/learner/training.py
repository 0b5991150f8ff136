"""Training batches of evalnet, and its loss. Pure functions of numpy arrays.

Each head learns from its own weights of the labels (Bayesian bootstrap), so that the heads differ
where a label could as well have been another. Labels fade: each answer halves the weights of
the labels before it every `HALVED_AFTER` answers, and sooner while answers surprise, since then
the taste has changed. Measured with simulated raters, fading costs a constant taste nothing, and a
taste that turns into its opposite is learned again within 40 answers instead of never.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.contract import HEADS
from roomgrad_melody.genome import Genomes, packed
from roomgrad_melody.ordinal import SIGMA, expected, of_scale, probabilities

Float32 = NDArray[np.float32]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EPOCHS = 10
BATCH_SIZE = 20

HALVED_AFTER = 80.0
"""Answers, none of which surprises, after which a label counts half."""

REMEMBERED = 3
"""Answers whose surprise is averaged."""

ORDER = 2  # purpose of random numbers; 0 and 1 are genomes and breeding


def batches(n: int, batch_size: int = BATCH_SIZE, epochs: int = EPOCHS) -> int:
    """Return the number of batches of a training run on `n` labels."""
    return -(-n // batch_size) * epochs


def surprise(rating: int, probs: Sequence[float]) -> float:
    """Return the squared error of a guess, probabilities `(6,)`, in units of its variance.

    It is about 1 on average as long as the probabilities are right.
    """
    guess = float(expected(probs))
    variance = float(np.square(np.arange(len(probs)) - guess) @ np.asarray(probs))
    return (rating - guess) ** 2 / (variance + 0.25)


def fading(surprises: Sequence[float]) -> float:
    """Return how many times one answer halves the weights of the labels before it, at most 1."""
    return min(1.0, float(np.mean(surprises)) ** 2 / HALVED_AFTER)


def draws(seed: int, run: int, number: int, purpose: int) -> np.random.Generator:
    """Return random numbers that depend on these four numbers alone."""
    philox = np.random.Philox(key=[seed, run], counter=[0, 0, number, purpose])
    return np.random.Generator(philox)


def bootstrap(genomes: Genomes, seed: int) -> Floats:
    """Return the weight of each label for each head, float64 `(n, 16)`: exponential, mean 1.

    It is a hash of the melody and the seed, the same in each training run.
    """
    salt = str(seed).encode("ascii")
    melodies = [melody.tobytes() for melody in packed(genomes)]
    size = 4 * HEADS
    digests = [hashlib.blake2b(each + salt, digest_size=size).digest() for each in melodies]
    numbers = np.frombuffer(b"".join(digests), "<u4").reshape(-1, HEADS)
    weights = -np.log((numbers + 0.5) / 2.0**32)
    return np.asarray(weights / weights.mean(axis=1, keepdims=True))


def batch(
    genomes: Genomes,
    ratings: Integers,
    weights: Floats,
    seed: int,
    run: int,
    number: int,
    batch_size: int = BATCH_SIZE,
) -> tuple[Float32, Integers, Float32]:
    """Return batch `number` of a training run on n labels: genomes, ratings, and weights `(n,)`.

    Returns rows float32 `(b, 128)`, ratings int64 `(b,)`, and weights float32 `(b, 16)`, which are
    larger by n / b, so that the gradient of a batch estimates that of all labels. Philox is keyed
    by (seed, run), so any replica makes the same batch.
    """
    epoch, turn = divmod(number, batches(len(genomes), batch_size, 1))
    order = draws(seed, run, epoch, ORDER).permutation(len(genomes))
    chosen = order[turn * batch_size : (turn + 1) * batch_size]
    share = weights[chosen, None] * len(genomes) / len(chosen)
    of_heads = (bootstrap(genomes[chosen], seed) * share).astype("<f4")
    return genomes[chosen].astype("<f4"), ratings[chosen], of_heads


def cross_entropy(
    scores: Float32, ratings: Integers, weights: Float32, histogram: Sequence[int]
) -> tuple[float, Float32]:
    """Return the mean cross entropy of scores `(b, 16)` in nats, and the gradient of their sum.

    The mean, and the sum over labels and heads, are weighted by `(b, 16)` weights. The gradient is
    float32 `(b, 16)`. histogram: how many labels have each rating, `(6,)`.
    """
    probs = of_scale(probabilities(scores), histogram)
    likely = np.take_along_axis(probs, ratings[:, None, None], axis=2)[:, :, 0]
    loss = -float((weights * np.log(np.maximum(likely, 1e-300))).sum() / weights.sum())
    gradient = weights * (expected(probs) - ratings[:, None]) / SIGMA**2
    return loss, gradient.astype("<f4")
