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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.contract import FIRST, HEADS, NEITHER, PREFERENCES, SECOND
from roomgrad_melody.genome import BITS, Genomes, packed
from roomgrad_melody.ordinal import (
    DECISION,
    MIDDLE,
    SIGMA,
    expected,
    of_scale,
    probabilities,
    sigmoid,
)

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

WINS = np.array([{FIRST: 1.0, SECOND: 0.0}.get(each, 0.5) for each in PREFERENCES])
BOTH_BAD = PREFERENCES.index(NEITHER)


@dataclass(frozen=True)
class Answers:
    """What a training run learns from: ratings of n melodies, and preferences of m pairs."""

    genomes: Genomes
    """Canonical, `(n, 128)`."""

    ratings: Integers
    """`(n,)`, 0 to 5."""

    firsts: Genomes
    seconds: Genomes
    """Canonical, `(m, 128)` each."""

    preferences: Integers
    """`(m,)`, places in `PREFERENCES`."""

    weights: Floats
    """`(n + m,)`, of the ratings and then of the preferences."""

    @classmethod
    def of_ratings(cls, genomes: Genomes, ratings: Integers, weights: Floats) -> Answers:
        """Return answers without pairs."""
        none = np.empty((0, BITS), np.uint8)
        return cls(genomes, ratings, none, none, np.empty(0, np.int64), weights)

    def __len__(self) -> int:
        return len(self.ratings) + len(self.preferences)


def batches(n: int, batch_size: int = BATCH_SIZE, epochs: int = EPOCHS) -> int:
    """Return the number of batches of a training run on `n` answers."""
    return -(-n // batch_size) * epochs


def surprise(rating: int, probs: Sequence[float]) -> float:
    """Return the squared error of a guess, probabilities `(6,)`, in units of its variance.

    It is about 1 on average as long as the probabilities are right.
    """
    guess = float(expected(probs))
    variance = float(np.square(np.arange(len(probs)) - guess) @ np.asarray(probs))
    return (rating - guess) ** 2 / (variance + 0.25)


def surprise_of_vote(preference: str, guess: float) -> float:
    """Return the same of the guess, a probability, that the first of two is preferred."""
    share = float(WINS[PREFERENCES.index(preference)])
    return (share - guess) ** 2 / (guess * (1.0 - guess) + 0.05)


def fading(surprises: Sequence[float]) -> float:
    """Return how many times one answer halves the weights of the labels before it, at most 1."""
    return min(1.0, float(np.mean(surprises)) ** 2 / HALVED_AFTER)


def draws(seed: int, run: int, number: int, purpose: int) -> np.random.Generator:
    """Return random numbers that depend on these four numbers alone."""
    philox = np.random.Philox(key=[seed, run], counter=[0, 0, number, purpose])
    return np.random.Generator(philox)


def bootstrap(genomes: Genomes, seed: int) -> Floats:
    """Return the weight of each answer for each head, float64 `(n, 16)`: exponential, mean 1.

    It is a hash of the melody, or of both of a pair `(n, 256)`, and the seed, the same in each
    training run.
    """
    salt = str(seed).encode("ascii")
    melodies = [melody.tobytes() for melody in packed(genomes)]
    size = 4 * HEADS
    digests = [hashlib.blake2b(each + salt, digest_size=size).digest() for each in melodies]
    numbers = np.frombuffer(b"".join(digests), "<u4").reshape(-1, HEADS)
    weights = -np.log((numbers + 0.5) / 2.0**32)
    return np.asarray(weights / weights.mean(axis=1, keepdims=True))


def batch(
    answers: Answers, seed: int, run: int, number: int, batch_size: int = BATCH_SIZE
) -> tuple[Float32, Integers, Integers, Float32]:
    """Return batch `number` of a training run: rows, ratings, preferences, and weights.

    Of b answers, r are ratings and p are preferences. Returns rows float32 `(r + 2 p, 128)`, the
    rated melodies before the firsts and the seconds of the pairs; ratings int64 `(r,)`; preferences
    int64 `(p,)`; and weights float32 `(b, 16)`, which are larger by n / b, so that the gradient of
    a batch estimates that of all n answers. Philox is keyed by (seed, run), so any replica makes
    the same batch.
    """
    epoch, turn = divmod(number, batches(len(answers), batch_size, 1))
    order = draws(seed, run, epoch, ORDER).permutation(len(answers))
    chosen = order[turn * batch_size : (turn + 1) * batch_size]
    rated, compared = chosen[chosen < len(answers.ratings)], chosen[chosen >= len(answers.ratings)]
    pairs = compared - len(answers.ratings)
    melodies, firsts, seconds = (
        answers.genomes[rated],
        answers.firsts[pairs],
        answers.seconds[pairs],
    )
    both = np.concatenate([firsts, seconds], axis=1)
    shares = answers.weights[np.concatenate([rated, compared]), None] * len(answers) / len(chosen)
    heads = np.concatenate([bootstrap(melodies, seed), bootstrap(both, seed)])
    return (
        np.concatenate([melodies, firsts, seconds]).astype("<f4"),
        answers.ratings[rated],
        answers.preferences[pairs],
        (heads * shares).astype("<f4"),
    )


def loss(
    scores: Float32,
    ratings: Integers,
    preferences: Integers,
    weights: Float32,
    histogram: Sequence[int],
) -> tuple[float, Float32]:
    """Return the mean loss of a batch in nats, and the gradient of its sum, `(r + 2 p, 16)`.

    It takes the scores of the rows of a batch, and the rest of the batch as it is. histogram: how
    many labels have each rating, `(6,)`.
    """
    r, p = len(ratings), len(preferences)
    rated, of_ratings = cross_entropy(scores[:r], ratings, weights[:r], histogram)
    if not p:
        return rated, of_ratings
    compared, *of_pairs = bradley_terry(
        scores[r : r + p], scores[r + p :], preferences, weights[r:]
    )
    shares = weights[:r].sum(), weights[r:].sum()
    return float(np.average([rated, compared], weights=shares)), np.concatenate(
        [of_ratings, *of_pairs]
    )


def cross_entropy(
    scores: Float32, ratings: Integers, weights: Float32, histogram: Sequence[int]
) -> tuple[float, Float32]:
    """Return the mean cross entropy of scores `(b, 16)` in nats, and the gradient of their sum.

    The mean, and the sum over labels and heads, are weighted by `(b, 16)` weights. The gradient is
    float32 `(b, 16)`. histogram: how many labels have each rating, `(6,)`.
    """
    probs = of_scale(probabilities(scores), histogram)
    likely = np.take_along_axis(probs, ratings[:, None, None], axis=2)[:, :, 0]
    mean = -float((weights * np.log(np.maximum(likely, 1e-300))).sum() / (weights.sum() or 1.0))
    gradient = weights * (expected(probs) - ratings[:, None]) / SIGMA**2
    return mean, gradient.astype("<f4")


def bradley_terry(
    firsts: Float32, seconds: Float32, preferences: Integers, weights: Float32
) -> tuple[float, Float32, Float32]:
    """Return the mean loss of pairs in nats, and the gradients of its sum for both melodies.

    Scores of both, and weights, are `(p, 16)`. preferences: places in `PREFERENCES`, `(p,)`. An
    equal pair is half a win each. If neither is good, both also lose against the middle.
    """
    shares, bad = WINS[preferences][:, None], (preferences == BOTH_BAD)[:, None]
    odds = (firsts.astype(np.float64) - seconds) / DECISION
    losses = shares * np.logaddexp(0.0, -odds) + (1.0 - shares) * np.logaddexp(0.0, odds)
    slope = sigmoid(odds) - shares
    gradients = []
    for scores, sign in ((firsts, 1.0), (seconds, -1.0)):
        above = (scores.astype(np.float64) - MIDDLE) / DECISION
        losses = losses + bad * np.logaddexp(0.0, above)
        gradient = weights * (sign * slope + bad * sigmoid(above)) / DECISION
        gradients.append(gradient.astype("<f4"))
    mean = float((weights * losses).sum() / weights.sum())
    return mean, gradients[0], gradients[1]
