"""Strategies: what they choose, in which order, and always the same."""

import numpy as np
import pytest

from roomgrad_melody.contract import HEADS
from roomgrad_melody.genome import Genomes, canonical, random_genomes
from roomgrad_melody.learner.strategy import (
    DEFAULT,
    DISTANCE,
    PAIR_STRATEGIES,
    STRATEGIES,
    Floats,
    best_of_two,
    choose,
    distances,
    far_enough,
)

SCORES = np.array(
    [
        [2.0] * HEADS,  # sure
        [2.5] * HEADS,  # the smallest margin
        np.linspace(0.0, 5.0, HEADS) ** 1.3,  # the highest entropy, the lowest maximum
        [2.3] * HEADS,
    ]
)
RATED = 40


def random() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[1, 2]))


def predictions(count: int) -> Floats:
    """Any scores `(count, 16)`."""
    return np.random.default_rng(0).uniform(0.0, 5.0, (count, HEADS))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("least_confident", [2, 1, 3, 0]), ("margin", [1, 2, 3, 0]), ("entropy", [2, 1, 3, 0])],
)
def test_the_least_certain_comes_first(name: str, expected: list[int]) -> None:
    assert choose(name, SCORES, RATED, 4, random()).tolist() == expected


@pytest.mark.parametrize("name", ["least_confident", "margin", "entropy"])
def test_of_equals_the_first_is_chosen(name: str) -> None:
    scores = np.tile(SCORES[3], (50, 1))
    assert choose(name, scores, RATED, 5, random()).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_chooses_different_ones_and_replays(name: str) -> None:
    scores = predictions(300)
    before = scores.copy()
    found = choose(name, scores, RATED, 25, random())
    assert found.shape == (25,)
    assert found.dtype.kind == "i"
    assert len(set(found.tolist())) == 25
    assert ((found >= 0) & (found < 300)).all()
    assert found.tolist() == choose(name, scores, RATED, 25, random()).tolist()
    assert (scores == before).all()


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("labels", [0, RATED])
def test_fewer_candidates_than_asked_for_are_all_chosen(name: str, labels: int) -> None:
    assert sorted(choose(name, SCORES, labels, 10, random()).tolist()) == [0, 1, 2, 3]
    assert choose(name, SCORES[:0], labels, 10, random()).shape == (0,)


def test_random_depends_on_the_generator() -> None:
    one = choose("random", predictions(100), RATED, 10, np.random.default_rng(1))
    other = choose("random", predictions(100), RATED, 10, np.random.default_rng(2))
    assert one.tolist() != other.tolist()


def alike(kinds: int, each: int, middle: float) -> Floats:
    """Scores of melodies of some kinds: those of a kind are known or unknown together."""
    apart = np.linalg.qr(np.random.default_rng(0).normal(size=(HEADS, HEADS)))[0][:kinds] * 4
    apart -= apart.mean(axis=1, keepdims=True)
    return np.repeat(apart, each, axis=0) + middle


def test_one_question_of_each_kind_is_enough() -> None:
    """What would tell the same as a melody that is asked about already is left out."""
    found = choose("design", alike(4, 10, 2.5), 0, 4, random())
    assert sorted((found // 10).tolist()) == [0, 1, 2, 3]


def test_questions_are_about_the_best_as_soon_as_there_are_labels() -> None:
    """Of two kinds, of which one is bad for certain, the other one is asked about."""
    scores = alike(2, 50, 0.0)
    scores[50:] = 4.0 + scores[50:] / 10  # less unknown, and far better
    first, later = (int(choose("design", scores, n, 1, random())[0]) for n in (0, RATED))
    assert first < 50 <= later


def test_the_melody_with_which_the_better_of_two_is_best_is_chosen() -> None:
    """The one that may be far better, before one that is a little better for certain."""
    best = np.full(HEADS, 3.0)
    scores = np.stack([best - 2, best + 0.2, best + np.tile([1.0, -3.0], HEADS // 2)])
    assert best_of_two(scores, best, RATED, 3, random()).tolist() == [2, 1, 0]


def test_melodies_that_are_compared_with_the_best_differ() -> None:
    """The second hope of a kind is worth nothing when the first one is asked about."""
    scores = alike(4, 10, 2.5)
    found = best_of_two(scores, np.full(HEADS, 2.5), RATED, 4, random())
    assert sorted((found // 10).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", PAIR_STRATEGIES)
@pytest.mark.parametrize("answers", [0, RATED])
def test_every_strategy_of_pairs_chooses_different_ones(name: str, answers: int) -> None:
    best = np.full(HEADS, 2.5)
    found = PAIR_STRATEGIES[name](predictions(300), best, answers, 25, random())
    assert len(set(found.tolist())) == 25
    few = PAIR_STRATEGIES[name](SCORES, best, answers, 10, random())
    assert sorted(few.tolist()) == [0, 1, 2, 3]


def melodies(count: int) -> Genomes:
    return canonical(random_genomes(1, 0, count))


def test_near_relatives_of_rated_melodies_are_marked() -> None:
    rated = melodies(3)
    near, far = rated[1].copy(), rated[1].copy()
    for genome, slots in ((near, DISTANCE - 1), (far, DISTANCE)):
        genome[: slots * 4].reshape(slots, 4)[:, 3] ^= 1
    both = canonical(np.stack([near, far]))
    assert distances(both, rated)[:, 1].tolist() == [DISTANCE - 1, DISTANCE]
    assert far_enough(both, rated).tolist() == [False, True]
    assert far_enough(both, rated[:0]).tolist() == [True, True]


def test_the_default_is_a_strategy() -> None:
    assert DEFAULT in STRATEGIES


def test_a_strategy_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="the strategy is 'best'; expected one of random, "):
        choose("best", SCORES, RATED, 1, random())
