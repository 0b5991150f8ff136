"""The next generation of weights: the best stay, the others are children of good ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float32]]

STAY = 0.75
"""The share of members that keep their weights."""

MUTATION = 0.02
"""Standard deviation of what is added to the weights of a child."""

TOURNAMENT = 3


def shapes(weights: Weights) -> frozenset[tuple[str, tuple[int, ...]]]:
    """Return what two members must have in common to have children."""
    return frozenset((name, each.shape) for name, each in weights.items())


def next_generation(
    weights: Sequence[Weights], scores: NDArray[np.float64], random: np.random.Generator
) -> list[Weights]:
    """Return weights for each member, in the same order.

    The worst quarter gets children of parents that won a tournament. A member whose network has
    other shapes than most keeps its weights, and is no parent.
    """
    order = np.argsort(-scores, kind="stable")
    like, _ = Counter(map(shapes, weights)).most_common(1)[0]
    fit = [int(i) for i in order if shapes(weights[i]) == like]
    found = list(weights)
    for i in fit[max(2, round(STAY * len(fit))) :]:
        mother, father = (min(random.integers(len(fit), size=TOURNAMENT)) for _ in range(2))
        found[i] = child(weights[fit[mother]], weights[fit[father]], random)
    return found


def child(mother: Weights, father: Weights, random: np.random.Generator) -> Weights:
    """Return weights with the actor of one parent and the critic of the other, slightly changed.

    Single units are not mixed: those of two networks do not correspond to each other.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for name in sorted(mother):  # safetensors returns them in any order
        own = (mother if name.startswith("actor.") else father)[name]
        found[name] = (own + MUTATION * random.standard_normal(own.shape)).astype(own.dtype)
    return found
