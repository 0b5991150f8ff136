"""Scores as probabilities of ratings."""

import numpy as np
import pytest

from roomgrad_melody.contract import HEADS
from roomgrad_melody.ordinal import (
    DECISION,
    cautious,
    expected,
    guess,
    lower_bound,
    mixture,
    of_scale,
    preference,
    probabilities,
)


def test_a_score_is_a_normal_distribution_around_it() -> None:
    probs = probabilities([0.0, 2.0, 2.5, 5.0])
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    assert probs.argmax(axis=1)[[0, 1, 3]].tolist() == [0, 2, 5]
    assert probs[1, 1] == pytest.approx(probs[1, 3])
    np.testing.assert_allclose(expected(probs)[1:3], [2.0, 2.5], atol=0.01)


def test_scores_beyond_the_scale_are_its_ends() -> None:
    probs = probabilities([1e30, -1e30])
    np.testing.assert_allclose(expected(probs), [5.0, 0.0])


def test_heads_that_differ_make_a_wide_belief_and_a_low_bound() -> None:
    scores = np.array([[2.5] * 16, [1.0, 4.0] * 8])
    probs = mixture(scores)
    np.testing.assert_allclose(expected(probs), 2.5)
    assert probs[1, 1] > 5 * probs[0, 1]
    agreed, differed = lower_bound(scores)
    assert agreed == pytest.approx(2.5)
    assert differed == pytest.approx(1.0, abs=0.1)


def test_a_rating_that_was_never_given_becomes_less_likely_with_each_label() -> None:
    """One that was given once does not, and without labels the heads are believed."""
    probs = probabilities([4.5])
    beliefs = [expected(of_scale(probs, [0, 0, 0, n, n, 0]))[0] for n in (0, 1, 5, 50)]
    assert beliefs[0] == pytest.approx(4.5, abs=0.02)
    assert beliefs[0] > beliefs[1] > beliefs[2] > beliefs[3]
    assert beliefs[3] == pytest.approx(4.0, abs=0.1)
    np.testing.assert_allclose(of_scale(probs, [9, 9, 9, 9, 9, 1]), probs)


def test_the_guess_is_the_median() -> None:
    """Of what is as likely as not, the lower rating."""
    probs = [[0, 0, 0, 0, 0.6, 0.4], [0.3, 0.1, 0.2, 0.1, 0.1, 0.2], [0.5, 0, 0, 0, 0, 0.5]]
    assert guess(probs).tolist() == [4, 2, 0]


def test_preferences_depend_on_the_difference_of_scores() -> None:
    """Odds of e to 1 at a difference of DECISION, half and half at none, and never overflow."""
    one = preference(np.array([3.0, 2.0, 1e30]), np.array([3.0, 2.0 - DECISION, -1e30]))
    np.testing.assert_allclose(one, [0.5, 1 / (1 + np.exp(-1)), 1.0])
    other = preference(np.array([1.0]), np.array([4.0]))
    assert other == pytest.approx(1 - preference(np.array([4.0]), np.array([1.0])))


def test_a_cautious_score_may_be_above_five() -> None:
    scores = np.stack([np.full(HEADS, 7.0), np.tile([6.0, 8.0], HEADS // 2)])
    assert cautious(scores).tolist() == [7.0, 6.0]
    assert lower_bound(scores) == pytest.approx([5.0, 5.0], abs=0.05)
