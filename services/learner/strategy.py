"""Query strategies: which melodies raters are asked about. Plain functions, chosen by name.

The default, `design`, chooses the melodies whose ratings tell most about the best ones, and about
all candidates while there are few labels. What one melody tells about another is the covariance of
their scores over the heads of the network. Measured with simulated raters, asking what one head,
drawn at random, rates highest (Thompson sampling) breeds as good melodies, but teaches little about
others: after 70 labels the error on random melodies was up to 1.3 instead of 0.5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import Genomes, values
from roomgrad_melody.ordinal import SIGMA, expected, mixture, probabilities

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Strategy = Callable[[Floats, int, int, np.random.Generator], Integers]
"""`(scores (n, 16), labels, count, random)` to indices `(count,)`.

The best index comes first; at most n indices.
"""

FIRST_LABELS = 10
"""Labels before which questions are about all candidates, and not the best ones."""

TOP = 0.05
"""Share of the candidates that are the best ones: those that may be rated highest."""

DISTANCE = 8
"""Slots, of 32, in which a question differs from each melody that was rated lately, at least."""


def highest(scores: Floats, count: int) -> Integers:
    """Return the indices of the highest scores, best first; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


def at_random(scores: Floats, labels: int, count: int, random: np.random.Generator) -> Integers:
    """Choose at random."""
    return random.permutation(len(scores))[:count]


def least_confident(
    scores: Floats, labels: int, count: int, random: np.random.Generator
) -> Integers:
    """Choose the lowest probability of the likeliest rating."""
    return highest(1.0 - mixture(scores).max(axis=1), count)


def margin(scores: Floats, labels: int, count: int, random: np.random.Generator) -> Integers:
    """Choose the smallest difference between the two likeliest ratings."""
    ordered = np.sort(mixture(scores), axis=1)
    return highest(ordered[:, -2] - ordered[:, -1], count)


def entropy(scores: Floats, labels: int, count: int, random: np.random.Generator) -> Integers:
    """Choose the highest entropy of the probabilities."""
    probs = mixture(scores)
    return highest(-(probs * np.log(np.maximum(probs, 1e-300))).sum(axis=1), count)


def design(scores: Floats, labels: int, count: int, random: np.random.Generator) -> Integers:
    """Choose, one after the other, the melody whose rating tells most about the best ones.

    The gain is how much a rating lowers the mean variance of the scores of the best (optimal
    experiment design; Cohn 1996). After each choice the scores are conditioned on it, so that the
    next melody differs.
    """
    ratings = expected(probabilities(scores))
    hopes = ratings.mean(axis=1) + ratings.std(axis=1)
    number = len(scores) if labels < FIRST_LABELS else int(np.ceil(TOP * len(scores)))
    best = highest(hopes, number)
    apart = np.asarray(scores - scores.mean(axis=1, keepdims=True), dtype=np.float64)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        noisy = np.square(apart).mean(axis=1) + SIGMA**2
        told = apart @ apart[best].T / apart.shape[1]
        gains = np.square(told).mean(axis=1) / noisy
        gains[chosen] = -1.0
        one = int(np.argmax(gains))
        chosen.append(one)
        apart -= np.outer(apart @ apart[one] / apart.shape[1] / noisy[one], apart[one])
    return np.array(chosen, dtype=np.int64)


def best_of_two(
    scores: Floats, best: Floats, answers: int, count: int, random: np.random.Generator
) -> Integers:
    """Choose, one after the other, the melody with which the better one of two is best.

    That is the mean over the heads of the higher score. The melodies that are chosen count as
    heard for those that follow, so that they differ.
    """
    if answers < FIRST_LABELS:
        return design(scores, answers, count, random)
    chosen: list[int] = []
    for _ in range(min(count, len(scores))):
        hopes = np.maximum(scores, best).mean(axis=1)
        hopes[chosen] = -np.inf
        chosen.append(int(np.argmax(hopes)))
        best = np.maximum(best, scores[chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def any_partner(
    scores: Floats, best: Floats, answers: int, count: int, random: np.random.Generator
) -> Integers:
    """Choose at random."""
    return at_random(scores, answers, count, random)


STRATEGIES: dict[str, Strategy] = {
    "random": at_random,
    "least_confident": least_confident,
    "margin": margin,
    "entropy": entropy,
    "design": design,
}
DEFAULT = "design"

PairStrategy = Callable[[Floats, Floats, int, int, np.random.Generator], Integers]
"""`(scores (n, 16), scores (16,) of the best melody heard, answers, count, random)` to indices."""

PAIR_STRATEGIES: dict[str, PairStrategy] = {"best_of_two": best_of_two, "random": any_partner}
PAIR_DEFAULT = "best_of_two"


def choose(
    name: str, scores: Floats, labels: int, count: int, random: np.random.Generator
) -> Integers:
    """Return the choice of a strategy. Raises ValueError for an unknown name."""
    if name not in STRATEGIES:
        raise ValueError(f"the strategy is {name!r}; expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name](scores, labels, count, random)


def distances(genomes: Genomes, others: Genomes) -> NDArray[np.int64]:
    """Return in how many slots canonical `(n, 128)` differ from `(m, 128)`: int64 `(n, m)`."""
    mine, theirs = values(genomes), values(others)
    return np.asarray((mine[:, None] != theirs[None]).sum(axis=2), dtype=np.int64)


def far_enough(genomes: Genomes, others: Genomes) -> NDArray[np.bool_]:
    """Mark the melodies `(n, 128)` that differ enough from all of the others `(m, 128)`."""
    return np.asarray((distances(genomes, others) >= DISTANCE).all(axis=1))
