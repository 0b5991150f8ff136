"""Which melodies a person is asked about. Strategies are plain functions, chosen by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from roomgrad.melody.genome import SLOTS, Genomes, values

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Strategy = Callable[[Floats, Genomes, Genomes, int, np.random.Generator], Integers]
"""`(probs (n, 6), genomes (n, 128), labelled (m, 128), count, random)` to indices `(count,)`.

The genomes are canonical; the most wanted index comes first; never more than n.
"""


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


def slots(genomes: Genomes) -> Floats:
    """One of 9 per slot, `(n, 288)`: squared distances are twice the number of other slots."""
    hot = values(genomes)[:, :, None] == np.arange(9)
    return np.asarray(hot.reshape(len(genomes), 9 * SLOTS), dtype=np.float64)


def spread(
    probs: Floats, genomes: Genomes, labelled: Genomes, count: int, random: np.random.Generator
) -> Integers:
    """The farthest from all that is labelled or chosen, weighed by how unsure the network is."""
    known = slots(labelled)
    mine = slots(genomes)
    shared = (mine @ known.T).max(axis=1) if len(known) else np.zeros(len(mine))
    unsure = 1.0 - probs.max(axis=1)
    chosen: list[int] = []
    for _ in range(min(count, len(mine))):
        gains = unsure * (32.0 - shared)
        gains[chosen] = -1.0
        best = int(np.argmax(gains))
        chosen.append(best)
        shared = np.maximum(shared, mine @ mine[best])
    return np.array(chosen, dtype=np.int64)


STRATEGIES: dict[str, Strategy] = {
    "random": at_random,
    "least_confident": least_confident,
    "margin": margin,
    "entropy": entropy,
    "spread": spread,
}
DEFAULT = "spread"


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
