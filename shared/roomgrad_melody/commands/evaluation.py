"""Scores of the network's predictions of a rater. Pure functions of arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import Genomes, random_genomes

MELODIES = 2000
SEED, DRAW = 20, 2**41
"""Fixed, so that all runs are evaluated on the same random melodies."""

BINS = 10


@dataclass(frozen=True)
class Scores:
    """Scores of predicted ratings."""

    accuracy: float
    """Share of the melodies whose likeliest rating is the rater's."""

    mae: float
    """Mean distance of the expected rating from the rater's."""

    ece: float
    """Expected calibration error: distance between the probability of the likeliest rating and
    the share of melodies where it is right, mean over ten bins, weighted by their melodies.
    """


def melodies() -> Genomes:
    """Return the melodies on which runs are evaluated, `(2000, 128)`."""
    return random_genomes(SEED, DRAW, MELODIES)


def scores(probs: NDArray[np.float64], ratings: NDArray[np.float64]) -> Scores:
    """Return the scores of `(n, 6)` probabilities against the ratings `(n,)` of the rater.

    They are NaN if the rater gives no ratings.
    """
    if np.isnan(ratings).any():
        return Scores(math.nan, math.nan, math.nan)
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
