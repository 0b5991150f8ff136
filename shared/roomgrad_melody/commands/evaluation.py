"""How well the network predicts a rater. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import Genomes, random_genomes

MELODIES = 2000
SEED, DRAW = 20, 2**41
"""Of the random melodies on which every run is evaluated, whatever its own seed is."""

BINS = 10


@dataclass(frozen=True)
class Scores:
    """How well ratings are predicted."""

    accuracy: float
    """Share of the melodies whose likeliest rating is the rater's."""

    mae: float
    """Mean distance of the expected rating from the rater's."""

    ece: float
    """Expected calibration error: how far the chance that the network gives its likeliest rating
    is from how often that is right, mean over ten bins of that chance, weighed by their melodies.
    """


def melodies() -> Genomes:
    """The melodies on which runs are evaluated, `(2000, 128)`."""
    return random_genomes(SEED, DRAW, MELODIES)


def scores(probs: NDArray[np.float64], ratings: NDArray[np.int64]) -> Scores:
    """The scores of `(n, 6)` probabilities against the ratings `(n,)` of the rater."""
    probs = np.asarray(probs, np.float64)
    right = probs.argmax(axis=1) == ratings
    expected = probs @ np.arange(probs.shape[1])
    chance = probs.max(axis=1)
    bins = np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    gaps = [
        abs(right[bins == each].mean() - chance[bins == each].mean()) * (bins == each).mean()
        for each in np.unique(bins)
    ]
    return Scores(
        accuracy=float(right.mean()),
        mae=float(np.abs(expected - ratings).mean()),
        ece=float(sum(gaps)),
    )
