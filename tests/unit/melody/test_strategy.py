"""Strategies: what they choose, in which order, and always the same."""

import numpy as np
import pytest

from roomgrad_melody.genome import Genomes, canonical, random_genomes
from roomgrad_melody.learner.strategy import DEFAULT, STRATEGIES, Floats, choose

PROBS = np.array(
    [
        [0.98, 0.02, 0.00, 0.00, 0.00, 0.00],  # sure
        [0.50, 0.48, 0.02, 0.00, 0.00, 0.00],  # the smallest margin
        [0.30, 0.14, 0.14, 0.14, 0.14, 0.14],  # the highest entropy, the lowest maximum
        [0.40, 0.35, 0.25, 0.00, 0.00, 0.00],
    ]
)


def random() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[1, 2]))


def melodies(count: int, number: int = 0) -> Genomes:
    return canonical(random_genomes(1, number, count))


def predictions(count: int) -> Floats:
    """Any probabilities `(count, 6)`."""
    return np.random.default_rng(0).dirichlet(np.ones(6), count)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("least_confident", [2, 3, 1, 0]), ("margin", [1, 3, 2, 0]), ("entropy", [2, 3, 1, 0])],
)
def test_the_least_certain_comes_first(name: str, expected: list[int]) -> None:
    found = choose(name, PROBS, melodies(4), melodies(0), 4, random())
    assert found.tolist() == expected


@pytest.mark.parametrize("name", ["least_confident", "margin", "entropy"])
def test_of_equals_the_first_is_chosen(name: str) -> None:
    probs = np.tile(PROBS[3], (50, 1))
    assert choose(name, probs, melodies(50), melodies(3), 5, random()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_chooses_different_ones_and_replays(name: str) -> None:
    probs, genomes, labelled = predictions(300), melodies(300), melodies(40, 1)
    before = probs.copy(), genomes.copy(), labelled.copy()
    found = choose(name, probs, genomes, labelled, 25, random())
    assert found.shape == (25,)
    assert found.dtype.kind == "i"
    assert len(set(found.tolist())) == 25
    assert ((found >= 0) & (found < 300)).all()
    assert found.tolist() == choose(name, probs, genomes, labelled, 25, random()).tolist()
    for one, other in zip(before, (probs, genomes, labelled), strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("name", STRATEGIES)
def test_fewer_candidates_than_asked_for_are_all_chosen(name: str) -> None:
    found = choose(name, PROBS, melodies(4), melodies(0), 10, random())
    assert sorted(found.tolist()) == [0, 1, 2, 3]
    none = choose(name, PROBS[:0], melodies(0), melodies(2), 10, random())
    assert none.shape == (0,)


def test_random_depends_on_the_generator() -> None:
    arguments = predictions(100), melodies(100), melodies(0), 10
    one = choose("random", *arguments, np.random.default_rng(1))
    other = choose("random", *arguments, np.random.default_rng(2))
    assert one.tolist() != other.tolist()


def test_the_diverse_one_leaves_out_what_it_has_already() -> None:
    """Ten times one melody: once is enough while there are others, and labelled ones are known."""
    genomes = melodies(14)
    genomes[4:] = genomes[4]
    probs = np.tile(PROBS[3], (14, 1))
    found = choose("design", probs, genomes, melodies(20, 1), 5, random())
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]
    found = choose("design", probs, genomes, genomes[4:5], 4, random())
    assert sorted(found.tolist()) == [0, 1, 2, 3]


def test_the_default_is_a_strategy() -> None:
    assert DEFAULT in STRATEGIES


def test_a_strategy_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="the strategy is 'best'; expected one of random, "):
        choose("best", PROBS, melodies(4), melodies(0), 1, random())
