"""What the heads of the network say of a rating, and of a preference. Pure functions of arrays.

Each head gives a melody a score, a real number. It stands for probabilities of the ratings 0 to 5,
those of a normal distribution around it. The heads agree on melodies like those that were rated,
and differ on others: the spread of their expected ratings is how little is known.

Of two melodies, the one with the higher score is preferred more often (Bradley and Terry 1952).
Ratings end at 5, scores do not, so preferences tell good melodies apart when ratings no longer do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from roomgrad_melody.contract import RATINGS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIGMA = 0.5
"""Standard deviation of a rating around its score, in ratings."""

CAUTION = 1.0
"""Standard deviations of the heads by which the lower bound is below their mean."""

UNUSED = 2.0
"""Labels after which a rating that none of them has is half as likely as the heads say."""

MIDDLE = 2.5
"""The score of a melody that is neither good nor bad, and of every melody without labels."""

DECISION = 0.4
"""Difference of two scores at which the odds of a preference are e to 1."""

_VALUES = np.arange(RATINGS, dtype=np.float64)


def probabilities(scores: ArrayLike) -> Floats:
    """Return the probabilities of the ratings: scores `(...)` in, float64 `(..., 6)` out."""
    each = np.asarray(scores, dtype=np.float64)[..., None]
    logits = (each * _VALUES - 0.5 * _VALUES**2) / SIGMA**2
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def mixture(scores: ArrayLike) -> Floats:
    """Return the mean probabilities of the heads: scores `(n, heads)` in, float64 `(n, 6)` out."""
    return np.asarray(probabilities(scores).mean(axis=1))


def of_scale(probs: ArrayLike, histogram: ArrayLike) -> Floats:
    """Return the probabilities of a rater of whom so many labels `(6,)` have each rating.

    A rating that was never given becomes less likely with each label: the heads extrapolate, and
    do not know at which rating a rater's scale ends. `(n, 6)` in, float64 `(n, 6)` out.
    """
    counts = np.asarray(histogram)
    weights = np.where(counts > 0, 1.0, UNUSED / (UNUSED + counts.sum()))
    likely = np.asarray(probs, dtype=np.float64) * weights
    return np.asarray(likely / likely.sum(axis=-1, keepdims=True))


def expected(probs: ArrayLike) -> Floats:
    """Return the expected ratings of probabilities `(..., 6)`, float64 `(...)` in [0, 5]."""
    return np.asarray(np.asarray(probs, dtype=np.float64) @ _VALUES)


def guess(probs: ArrayLike) -> Integers:
    """Return the rating that is nearest to the answer on average, the median: `(..., 6)` in."""
    return np.asarray((np.cumsum(probs, axis=-1) >= 0.5 - 1e-6).argmax(axis=-1))


def lower_bound(scores: ArrayLike) -> Floats:
    """Return a rating that a melody probably has at least: `(n, heads)` in, float64 `(n,)` out.

    It is the mean of the heads' expected ratings minus `CAUTION` times their standard deviation.
    Breeding by the mean would find the melodies that the network overrates.
    """
    return cautious(expected(probabilities(scores)))


def cautious(values: ArrayLike) -> Floats:
    """Return what the heads say at least: `(n, heads)` of ratings or scores in, `(n,)` out."""
    each = np.asarray(values, dtype=np.float64)
    return np.asarray(each.mean(axis=1) - CAUTION * each.std(axis=1))


def preference(firsts: ArrayLike, seconds: ArrayLike) -> Floats:
    """Return the probability that the first is preferred, by each pair of scores `(...)`."""
    apart = np.asarray(firsts, dtype=np.float64) - np.asarray(seconds, dtype=np.float64)
    return np.asarray(sigmoid(apart / DECISION))


def sigmoid(values: Floats) -> Floats:
    """Return the logistic function, float64 of the same shape, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))
