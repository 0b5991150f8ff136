"""Batches, weights and the loss that the learner trains evalnet with."""

import numpy as np
import pytest
import torch

from roomgrad_melody.contract import HEADS
from roomgrad_melody.genome import Genomes, canonical, random_genomes
from roomgrad_melody.learner import training
from roomgrad_melody.learner.training import Floats, Integers
from roomgrad_melody.ordinal import SIGMA, UNUSED


def labels(count: int) -> tuple[Genomes, Integers, Floats]:
    """Different melodies, some ratings, and weights of 1."""
    genomes = canonical(random_genomes(1, 0, count))
    return genomes, np.arange(count) % 6, np.ones(count)


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 10), (20, 10), (21, 20), (340, 170)])
def test_how_many_batches_a_training_has(n: int, expected: int) -> None:
    assert training.batches(n) == expected
    assert training.batches(n, 20, 1) * 10 == expected


@pytest.mark.parametrize("count", [1, 19, 20, 47])
def test_an_epoch_holds_every_label_once(count: int) -> None:
    genomes, ratings, weights = labels(count)
    turns = training.batches(count, 20, 1)
    seen = []
    for number in range(turns, 2 * turns):
        rows, targets, shares = training.batch(genomes, ratings, weights, 1, 2, number, 20)
        size = min(20, count - (number - turns) * 20)
        assert (rows.dtype, shares.dtype) == (np.float32, np.float32)
        assert (rows.shape, shares.shape) == ((size, 128), (size, HEADS))
        np.testing.assert_allclose(shares.mean(axis=1), count / size, rtol=1e-5)
        seen += [(row.tobytes(), int(one)) for row, one in zip(rows, targets, strict=True)]
    floats = genomes.astype("<f4")
    expected = [(row.tobytes(), int(one)) for row, one in zip(floats, ratings, strict=True)]
    assert sorted(seen) == sorted(expected)


def test_a_batch_is_a_function_of_seed_run_and_number() -> None:
    def rows(seed: int, run: int, number: int) -> Genomes:
        return training.batch(*labels(60), seed, run, number)[0].astype(np.uint8)

    assert (rows(1, 2, 3) == rows(1, 2, 3)).all()
    for other in (rows(2, 2, 3), rows(1, 3, 3), rows(1, 2, 6), rows(1, 2, 4)):
        assert (rows(1, 2, 3) != other).any()


def test_each_head_has_its_own_weight_of_a_label_in_all_runs() -> None:
    genomes, ratings, weights = labels(20)
    shares = training.bootstrap(genomes, 3)
    np.testing.assert_allclose(shares.mean(axis=1), 1.0)
    assert 0.7 < shares.std() < 1.2, "exponential"
    assert (shares != training.bootstrap(genomes, 4)).all()
    for run in (0, 1):
        rows, _, found = training.batch(genomes, ratings, weights, 3, run, 0)
        order = [genomes.tolist().index(row) for row in rows.astype(int).tolist()]
        np.testing.assert_allclose(found, shares[order], rtol=1e-6)


def test_a_label_that_fades_counts_less() -> None:
    genomes, ratings, weights = labels(20)
    weights[:10] = 0.25
    full = training.batch(genomes, ratings, np.ones(20), 0, 0, 0)[2]
    faded = training.batch(genomes, ratings, weights, 0, 0, 0)[2]
    assert sorted((faded / full)[:, 0].round(5)) == [0.25] * 10 + [1.0] * 10


def test_surprise_is_the_error_in_units_of_what_was_expected() -> None:
    sure, unsure = [0, 0, 0, 0, 0, 1.0], [1 / 6] * 6
    assert training.surprise(5, sure) == 0.0
    assert training.surprise(0, sure) == 100.0
    assert training.surprise(5, unsure) == pytest.approx(2.5**2 / (35 / 12 + 0.25))


def test_labels_fade_slowly_until_answers_surprise() -> None:
    assert training.fading([1.0, 1.0, 1.0]) == pytest.approx(1 / training.HALVED_AFTER)
    assert training.fading([0.1, 0.1, 0.1]) < 0.001
    assert training.fading([30.0, 30.0, 30.0]) == 1.0


@pytest.mark.parametrize("never", [None, 5])
def test_the_gradient_is_torchs(never: int | None) -> None:
    """Also if a rating was never given, which makes it less likely."""
    random = np.random.default_rng(0)
    scores = random.normal(2.5, 3.0, size=(13, HEADS)).astype(np.float32)
    ratings = random.integers(0, 5, 13)
    weights = random.exponential(size=(13, HEADS)).astype(np.float32)
    histogram = [0 if rating == never else 5 for rating in range(6)]
    loss, gradient = training.cross_entropy(scores, ratings, weights, histogram)
    theirs = torch.from_numpy(scores).double().requires_grad_()
    values = torch.arange(6.0)
    logits = (theirs[..., None] * values - 0.5 * values**2) / SIGMA**2
    if never is not None:
        logits = logits + torch.log(torch.tensor([1.0] * 5 + [UNUSED / (UNUSED + 25)]))
    targets = torch.from_numpy(ratings)[:, None].expand(-1, HEADS)
    each = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    )
    total = (each * torch.from_numpy(weights).flatten()).sum()
    total.backward()
    assert loss == pytest.approx(total.item() / float(weights.sum()), rel=1e-5)
    assert gradient.dtype == np.float32
    assert theirs.grad is not None
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_huge_scores_do_not_overflow() -> None:
    huge, ones = np.full((1, HEADS), 3e38, "<f4"), np.ones((1, HEADS), "<f4")
    loss, gradient = training.cross_entropy(huge, np.array([0]), ones, [1, 0, 0, 0, 0, 0])
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
