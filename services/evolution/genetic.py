"""A genetic algorithm for melodies: tournaments, two-point crossover, bit flips, elites.

Pure functions. Breeding exploits what the network overrates: with 100 labels of a simulated rater,
after 40 generations, about one run in 25 ends a little below a true mean of 4.8 although the
network expects 5.0. Over 20 to 80 seeds, 2 elites did about as well as 4 to 6, while 1 or 10 let
single runs fall to 4.1; fewer flips, and a rounded fitness with more ties, were worse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roomgrad_melody.genome import BITS, Genomes, canonical, packed, random_genomes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SIZE = 50
TOURNAMENT = 3
CROSSOVER = 0.5
FLIPS = 1.0
ELITE = 2
TRIES = 10
"""Mutations of a child that sounds like another one, at most."""


def first(seed: int, size: int = SIZE) -> Genomes:
    """Return the population of generation 0, uint8 `(size, 128)`."""
    return random_genomes(seed, 0, size)


def parents(fitness: Floats, count: int, tournament: int, random: np.random.Generator) -> Integers:
    """Return the winners of tournaments by fitness `(n,)`, as indices `(count,)`."""
    entrants = random.integers(0, len(fitness), size=(count, tournament))
    return np.asarray(entrants[np.arange(count), fitness[entrants].argmax(axis=1)])


def crossed(
    mothers: Genomes, fathers: Genomes, chance: float, random: np.random.Generator
) -> Genomes:
    """Cross `(n, 128)` pairs: with a chance, bits between two points are the father's."""
    points = np.sort(random.integers(0, BITS + 1, size=(len(mothers), 2)), axis=1)
    crossing = random.random(len(mothers)) < chance
    places = np.arange(BITS)
    inside = (places >= points[:, :1]) & (places < points[:, 1:]) & crossing[:, None]
    return np.where(inside, fathers, mothers)


def flipped(genomes: Genomes, flips: float, random: np.random.Generator) -> Genomes:
    """Flip each bit with such a chance that a genome has `flips` of them on average."""
    return genomes ^ (random.random(genomes.shape) < flips / BITS).astype(np.uint8)


def breed(
    genomes: Genomes,
    fitness: Floats,
    seed: int,
    generation: int,
    *,
    tournament: int = TOURNAMENT,
    crossover: float = CROSSOVER,
    flips: float = FLIPS,
    elite: int = ELITE,
) -> Genomes:
    """Return the generation after `generation`: `(n, 128)` genomes and `(n,)` fitness in.

    The best `elite` melodies of different sound survive unchanged and come first. A child that
    sounds like one before it is mutated again, up to `TRIES` times. Raises ValueError for a
    fitness of another shape.
    """
    if fitness.shape != (len(genomes),):
        raise ValueError(f"the fitness has the shape {fitness.shape}; expected {(len(genomes),)}")
    key = np.random.Philox(key=[seed, generation], counter=[0, 0, 0, 1])
    random = np.random.Generator(key)
    size = len(genomes)
    mothers = genomes[parents(fitness, size, tournament, random)]
    fathers = genomes[parents(fitness, size, tournament, random)]
    children = flipped(crossed(mothers, fathers, crossover, random), flips, random)
    heard: set[bytes] = set()
    offspring: list[Genomes] = []
    for one in np.argsort(-fitness, kind="stable"):
        sound = packed(canonical(genomes[one])).tobytes()
        if len(offspring) < elite and sound not in heard:
            heard.add(sound)
            offspring.append(genomes[one])
    for child in children[: size - len(offspring)]:
        for _ in range(TRIES):
            if packed(canonical(child)).tobytes() not in heard:
                break
            child = flipped(child, max(flips, 1.0), random)
        heard.add(packed(canonical(child)).tobytes())
        offspring.append(child)
    return np.stack(offspring)
