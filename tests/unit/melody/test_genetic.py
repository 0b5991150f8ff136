"""Breeding: who becomes a parent, what the children are, and that taste spreads."""

import numpy as np
import pytest

from roomgrad_melody.evolution import genetic
from roomgrad_melody.evolution.genetic import Floats
from roomgrad_melody.genome import Genomes, canonical, distinct, packed, random_genomes


def ones(genomes: Genomes) -> Floats:
    """A taste that is easy to check: how many bits are set."""
    return genomes.sum(axis=1, dtype=np.float64)


def test_the_first_population_is_a_function_of_the_seed() -> None:
    one = genetic.first(3, 50)
    assert one.shape == (50, 128)
    assert one.dtype == np.uint8
    assert (one == genetic.first(3, 50)).all()
    assert (one != genetic.first(4, 50)).any()


def test_a_generation_is_a_function_of_seed_and_number() -> None:
    genomes = genetic.first(1, 50)
    before = genomes.copy()
    child = genetic.breed(genomes, ones(genomes), 1, 2)
    assert child.shape == genomes.shape
    assert child.dtype == np.uint8
    assert child.max() == 1
    assert (genomes == before).all()
    assert (child == genetic.breed(genomes, ones(genomes), 1, 2)).all()
    assert (child != genetic.breed(genomes, ones(genomes), 1, 3)).any()
    assert (child != genetic.breed(genomes, ones(genomes), 2, 2)).any()


def test_winners_are_the_best_of_their_tournament() -> None:
    fitness = np.arange(10.0)
    random = np.random.default_rng(0)
    of_one, of_three, of_many = (
        genetic.parents(fitness, 3000, size, random).mean() for size in (1, 3, 60)
    )
    assert of_one == pytest.approx(4.5, abs=0.2)
    assert of_three == pytest.approx(6.975, abs=0.2)  # 9 - sum((k / 10) ** 3), k = 1 .. 9
    assert of_many > 8.9


def test_crossing_takes_one_stretch_from_the_father() -> None:
    mothers, fathers = np.zeros((2000, 128), np.uint8), np.ones((2000, 128), np.uint8)
    children = genetic.crossed(mothers, fathers, 1.0, np.random.default_rng(0))
    ends = np.diff(children.astype(int), axis=1, prepend=0, append=0)
    assert ((ends == 1).sum(axis=1) <= 1).all()
    assert children.mean() == pytest.approx(1 / 3, abs=0.02)
    half = genetic.crossed(mothers, fathers, 0.5, np.random.default_rng(0))
    assert half.any(axis=1).mean() == pytest.approx(0.5, abs=0.05)
    assert not genetic.crossed(mothers, fathers, 0.0, np.random.default_rng(0)).any()


def test_as_many_bits_flip_as_set() -> None:
    genomes = random_genomes(1, 0, 2000)
    for flips in (0.0, 1.0, 5.0):
        changed = genetic.flipped(genomes, flips, np.random.default_rng(0)) != genomes
        assert changed.sum(axis=1).mean() == pytest.approx(flips, abs=0.2)


def test_the_best_melodies_stay_and_come_first() -> None:
    genomes = genetic.first(5, 20)
    genomes[1] = genomes[0]
    fitness = np.array([9.0, 9.0, 3.0, 8.0, *np.zeros(16)])
    child = genetic.breed(genomes, fitness, 1, 1, elite=3)
    assert (child[0] == genomes[0]).all()
    assert (child[1] == genomes[3]).all()  # the twin of the best would be no other melody
    assert (child[2] == genomes[2]).all()


def test_children_without_crossing_and_flips_are_their_parents() -> None:
    genomes = genetic.first(6, 30)
    child = genetic.breed(
        genomes, ones(genomes), 1, 1, crossover=0.0, flips=0.0, tournament=1, elite=0
    )
    old = {row.tobytes() for row in packed(canonical(genomes))}
    same = [row.tobytes() in old for row in packed(canonical(child))]
    assert distinct(child).all()  # a second child of the same sound is mutated again
    assert 0.4 < np.mean(same) < 0.9


def test_one_melody_all_over_becomes_many() -> None:
    genomes = np.tile(random_genomes(7, 0, 1), (50, 1))
    assert distinct(genetic.breed(genomes, ones(genomes), 1, 1)).sum() > 45


def test_taste_spreads_and_the_best_is_never_lost() -> None:
    genomes = genetic.first(8, 50)
    best = [ones(genomes).max()]
    started = ones(genomes).mean()
    for generation in range(30):
        genomes = genetic.breed(genomes, ones(genomes), 8, generation)
        best.append(ones(genomes).max())
    assert best == sorted(best)
    assert ones(genomes).mean() > started + 20
    assert distinct(genomes).sum() >= 30


def test_a_fitness_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the fitness has the shape \(3,\); expected \(5,\)"):
        genetic.breed(genetic.first(1, 5), np.zeros(3), 1, 1)
