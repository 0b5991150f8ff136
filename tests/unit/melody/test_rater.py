"""The simulated rater: its check values, each feature by hand, and its replayable noise."""

import time

import numpy as np
import pytest

from roomgrad_melody.genome import Genomes, canonical, random_genomes
from roomgrad_melody.rater import rater

R = 8  # a rest


def melody(*values: int) -> Genomes:
    """A genome `(1, 128)` of 32 values."""
    assert len(values) == 32
    bits = [[value >> bit & 1 for bit in range(4)] for value in values]
    return np.array(bits, np.uint8).reshape(1, 128)


def feature(name: str, *values: int) -> float:
    """One feature of one melody."""
    return float(rater.features(melody(*values))[0, rater.FEATURES.index(name)])


def test_twenty_thousand_random_genomes_have_the_specified_shape() -> None:
    genomes = random_genomes(1, 0, 20_000)
    shares = np.bincount(rater.rating(genomes), minlength=6) / 200.0
    np.testing.assert_allclose(shares, [7.5, 24.1, 36.6, 24.3, 6.9, 0.6], atol=1.0)
    score = rater.score(genomes)
    assert score.mean() == pytest.approx(0.512, abs=0.002)
    assert score.std() == pytest.approx(0.079, abs=0.002)
    features = rater.features(genomes)
    assert features.shape == (20_000, 7)
    assert features.min() >= 0.0
    assert features.max() <= 1.0
    assert rater.WEIGHTS.sum() == pytest.approx(1.0)


def test_only_the_sound_counts() -> None:
    genomes = random_genomes(2, 0, 200)
    assert (rater.features(genomes) == rater.features(canonical(genomes))).all()


def test_silence_scores_its_equal_rests_only() -> None:
    silent = [R] * 32
    expected = [0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0]
    assert rater.features(melody(*silent))[0].tolist() == pytest.approx(expected)
    assert rater.rating(melody(*silent)).tolist() == [0]


@pytest.mark.parametrize(
    ("sounding", "expected"), [(6, 0.0), (8, 1 / 9), (16, 2 / 3), (24, 1.0), (32, 0.7)]
)
def test_density(sounding: int, expected: float) -> None:

    assert feature("density", *[0] * sounding, *[R] * (32 - sounding)) == pytest.approx(expected)


def test_motion_skips_rests() -> None:
    assert feature("motion", 0, R, 1, R, R, 4, *[R] * 26) == pytest.approx((1.0 + 0.5) / 2)
    assert feature("motion", 7, 0, *[R] * 30) == pytest.approx(0.35)
    assert feature("motion", *[R] * 31, 3) == 0.0


def test_harmony_looks_at_the_first_and_third_slot() -> None:
    assert feature("harmony", *[4, 1, 2, 1] * 8) == pytest.approx(1.0)
    assert feature("harmony", *[4, 1, 3, 1] * 8) == pytest.approx(0.75)
    assert feature("harmony", *[R, 0, 6, 0] * 8) == pytest.approx(0.25 / 3)


@pytest.mark.parametrize(
    ("last", "slot", "expected"),
    [(0, 31, 1.0), (7, 28, 1.0), (7, 27, 0.6), (2, 31, 0.4), (4, 3, 0.4), (5, 31, 0.0)],
)
def test_cadence(last: int, slot: int, expected: float) -> None:
    values = [1] * slot + [last] + [R] * (31 - slot)
    assert feature("cadence", *values) == pytest.approx(expected)


def test_motif_compares_rests_and_notes() -> None:
    assert feature("motif", *[0, R, 1, R] * 8) == pytest.approx(1.0)
    other_notes = [0, 1, 2, 3] * 2 + [1, 2, 3, 4] * 2 + [2, 3, 4, 5] * 2 + [3, 4, 5, 6] * 2
    assert feature("motif", *other_notes) == pytest.approx(0.5)
    # One equal note of four in each pair counts twice its share.
    one_equal = [0, 1, 2, 3] * 2 + [0, 2, 3, 4] * 2 + [0, 3, 4, 5] * 2 + [0, 4, 5, 6] * 2
    assert feature("motif", *one_equal) == pytest.approx(0.5 + 0.5 * 0.5)


def test_silence_counts_the_longest_run() -> None:
    assert feature("silence", *[0, R, R, 0] * 8) == pytest.approx(1.0)
    assert feature("silence", *[R] * 5, *[0] * 22, *[R] * 4, 0) == pytest.approx(0.5)
    assert feature("silence", *[0] * 20, *[R] * 12) == 0.0


def test_variety() -> None:
    found = [feature("variety", *([*range(kinds), *[0] * 32][:32])) for kinds in range(1, 9)]
    assert found == pytest.approx([0.0, 0.3, 0.7, 1.0, 1.0, 1.0, 0.9, 0.8])


def test_the_rating_is_the_rounded_score() -> None:
    genomes = random_genomes(4, 0, 2000)
    exact = np.clip(np.floor(5 * (rater.score(genomes) - 0.36) / 0.38 + 0.5), 0, 5)
    assert rater.rating(genomes).tolist() == exact.astype(int).tolist()
    assert rater.rating(genomes).dtype == np.int64


def test_noise_moves_its_share_by_one_and_replays() -> None:
    genomes = random_genomes(5, 0, 4000)
    exact = rater.rating(genomes)
    noisy = rater.rating(genomes, noise=0.3, seed=7)
    moved = noisy - exact
    assert set(moved.tolist()) == {-1, 0, 1}
    assert (moved != 0).mean() == pytest.approx(0.3, abs=0.03)
    middle = (exact > 0) & (exact < 5)
    assert (moved[middle] > 0).sum() == pytest.approx((moved[middle] < 0).sum(), rel=0.2)
    assert noisy.min() >= 0
    assert noisy.max() <= 5
    # Neither the other genomes nor the silent bits matter, the seed does.
    alone = [rater.rating(one[None], noise=0.3, seed=7)[0] for one in genomes[:50]]
    assert alone == noisy[:50].tolist()
    assert (rater.rating(canonical(genomes), noise=0.3, seed=7) == noisy).all()
    assert (rater.rating(genomes, noise=0.3, seed=8) != noisy).any()


def test_all_and_no_noise() -> None:
    genomes = random_genomes(6, 0, 500)
    assert (np.abs(rater.rating(genomes, noise=1.0) - rater.rating(genomes)) == 1).all()
    with pytest.raises(ValueError, match=r"the noise is 1\.5; expected 0 to 1"):
        rater.rating(genomes, noise=1.5)


def test_two_thousand_melodies_take_milliseconds() -> None:
    genomes = random_genomes(7, 0, 2000)
    started = time.process_time()
    rater.rating(genomes)
    assert time.process_time() - started < 0.2


def test_the_preference_is_the_higher_score() -> None:
    first, second = random_genomes(3, 0, 200), random_genomes(3, 1, 200)
    higher = rater.score(first) > rater.score(second)
    found = [rater.preference(a, b) for a, b in zip(first, second, strict=True)]
    assert found == ["first" if one else "second" for one in higher]
    assert rater.preference(first[0], canonical(first[:1])[0]) == "equal"


def test_some_preferences_are_wrong_and_replay_in_either_order() -> None:
    first, second = random_genomes(3, 0, 1000), random_genomes(3, 1, 1000)
    pairs = list(zip(first, second, strict=True))
    noisy = [rater.preference(a, b, 0.1, 5) for a, b in pairs]
    swapped = [rater.preference(b, a, 0.1, 5) for a, b in pairs]
    assert [{"first": "second", "second": "first"}[one] for one in swapped] == noisy
    wrong = np.mean(
        [one != rater.preference(a, b) for one, (a, b) in zip(noisy, pairs, strict=True)]
    )
    assert 0.07 < wrong < 0.13
    assert noisy != [rater.preference(a, b, 0.1, 6) for a, b in pairs]
    with pytest.raises(ValueError, match="the noise is 2; expected 0 to 1"):
        rater.preference(first[0], second[0], 2)
