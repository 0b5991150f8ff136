"""Batches, targets and the loss that the learner trains evalnet with."""

import numpy as np
import pytest
import torch

from roomgrad_melody.genome import Genomes, canonical, random_genomes
from roomgrad_melody.learner import training
from roomgrad_melody.learner.training import Integers


def labels(count: int) -> tuple[Genomes, Integers]:
    """Different melodies and some ratings; every rating is a function of the bars as a set."""
    genomes = canonical(random_genomes(1, 0, count))
    return genomes, np.arange(count) % 6


def bars(row: Genomes) -> list[bytes]:
    """The bars of one melody, sorted: the same in any order."""
    return sorted(bar.tobytes() for bar in row.astype(np.uint8).reshape(8, 16))


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 10), (20, 10), (21, 20), (340, 170)])
def test_how_many_batches_a_training_has(n: int, expected: int) -> None:
    assert training.batches(n) == expected
    assert training.batches(n, 20, 1) * 10 == expected


def test_targets_are_distributions_around_the_ratings() -> None:
    targets = training.soft_targets(np.arange(6))
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=1), 1.0, rtol=1e-6)
    assert targets.argmax(axis=1).tolist() == list(range(6))
    assert (targets.diagonal() > 0.9).all()
    assert targets[2, 1] == pytest.approx(targets[2, 3])
    assert targets[2, 3] > targets[2, 4]
    sharp, wide = (training.soft_targets(np.array([3]), width) for width in (0.1, 2.0))
    assert sharp[0, 3] > 0.999
    assert wide[0, 3] < 0.3


@pytest.mark.parametrize("count", [1, 19, 20, 47])
def test_an_epoch_holds_every_label_once(count: int) -> None:
    genomes, ratings = labels(count)
    turns = training.batches(count, 20, 1)
    seen = []
    for number in range(turns, 2 * turns):
        rows, targets = training.batch(genomes, ratings, 1, 2, number, 20, 1)
        assert rows.dtype == targets.dtype == np.float32
        assert rows.shape == (min(20, count - (number - turns) * 20), 128)
        seen += [
            (bars(row), int(target.argmax())) for row, target in zip(rows, targets, strict=True)
        ]
    expected = [(bars(row), int(rating)) for row, rating in zip(genomes, ratings, strict=True)]
    assert sorted(seen) == sorted(expected)


def test_a_batch_is_a_function_of_seed_chain_and_number() -> None:
    genomes, ratings = labels(60)

    def rows(seed: int, chain: int, number: int) -> Genomes:
        return training.batch(genomes, ratings, seed, chain, number)[0].astype(np.uint8)

    assert (rows(1, 2, 3) == rows(1, 2, 3)).all()
    for other in (rows(2, 2, 3), rows(1, 3, 3), rows(1, 2, 6), rows(1, 2, 4)):
        assert (rows(1, 2, 3) != other).any()


def test_epochs_are_shuffled_anew() -> None:
    genomes, ratings = labels(20)
    one, other = (training.batch(genomes, ratings, 0, 0, number)[1] for number in (0, 1))
    assert (one != other).any()
    assert sorted(one.argmax(axis=1)) == sorted(other.argmax(axis=1))


def test_variants_are_the_same_bars_in_other_orders_with_the_same_target() -> None:
    genomes, ratings = labels(20)
    rows, targets = training.batch(genomes, ratings, 0, 0, 0, 20, 3)
    assert rows.shape == (60, 128)
    for first, second in ((0, 20), (20, 40)):
        assert (rows[first : first + 20] != rows[second : second + 20]).any()
        for place in range(20):
            assert bars(rows[first + place]) == bars(rows[second + place])
            assert (targets[first + place] == targets[second + place]).all()


def test_the_loss_and_its_gradient_are_torchs() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(13, 6)).astype(np.float32) * 5
    targets = training.soft_targets(random.integers(0, 6, 13))
    loss, gradient = training.cross_entropy(logits, targets)
    theirs = torch.from_numpy(logits).requires_grad_()
    expected = torch.nn.functional.cross_entropy(theirs, torch.from_numpy(targets))
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert gradient.dtype == np.float32
    assert theirs.grad is not None
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), atol=1e-7)


def test_huge_logits_do_not_overflow() -> None:
    targets = training.soft_targets(np.array([0]))
    loss, gradient = training.cross_entropy(np.array([[0, 0, 0, 0, 0, 3e38]], "<f4"), targets)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
