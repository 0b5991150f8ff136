"""Batches, weights and the loss that the learner trains evalnet with."""

import hashlib

import numpy as np
import pytest
import torch

from roomgrad_melody.contract import HEADS
from roomgrad_melody.genome import Genomes, canonical, random_genomes
from roomgrad_melody.learner import training
from roomgrad_melody.learner.training import Answers, Floats, Integers
from roomgrad_melody.ordinal import DECISION, SIGMA, UNUSED


def labels(count: int) -> tuple[Genomes, Integers, Floats]:
    """Different melodies, some ratings, and weights of 1."""
    genomes = canonical(random_genomes(1, 0, count))
    return genomes, np.arange(count) % 6, np.ones(count)


def rated(count: int) -> Answers:
    """As many answers, all of them ratings."""
    return Answers.of_ratings(*labels(count))


def mixed(ratings: int, pairs: int) -> Answers:
    """Answers of both kinds."""
    both = canonical(random_genomes(2, 0, 2 * pairs)).reshape(2, pairs, 128)
    genomes, values, _ = labels(ratings)
    weights = np.linspace(0.5, 1.0, ratings + pairs)
    return Answers(genomes, values, *both, np.arange(pairs) % 4, weights)


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
        answers = Answers.of_ratings(genomes, ratings, weights)
        rows, targets, _, shares = training.batch(answers, 1, 2, number, 20)
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
        return training.batch(rated(60), seed, run, number)[0].astype(np.uint8)

    assert (rows(1, 2, 3) == rows(1, 2, 3)).all()
    for other in (rows(2, 2, 3), rows(1, 3, 3), rows(1, 2, 6), rows(1, 2, 4)):
        assert (rows(1, 2, 3) != other).any()


def test_each_head_has_its_own_weight_of_a_label_in_all_runs() -> None:
    genomes, _, _ = labels(20)
    shares = training.bootstrap(genomes, 3)
    np.testing.assert_allclose(shares.mean(axis=1), 1.0)
    assert 0.7 < shares.std() < 1.2, "exponential"
    assert (shares != training.bootstrap(genomes, 4)).all()
    for run in (0, 1):
        rows, _, _, found = training.batch(rated(20), 3, run, 0)
        order = [genomes.tolist().index(row) for row in rows.astype(int).tolist()]
        np.testing.assert_allclose(found, shares[order], rtol=1e-6)


def test_a_label_that_fades_counts_less() -> None:
    genomes, ratings, weights = labels(20)
    weights[:10] = 0.25
    full = training.batch(rated(20), 0, 0, 0)[3]
    faded = training.batch(Answers.of_ratings(genomes, ratings, weights), 0, 0, 0)[3]
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


@pytest.mark.parametrize(("ratings", "pairs"), [(13, 34), (0, 25), (25, 1)])
def test_an_epoch_holds_ratings_and_pairs_once(ratings: int, pairs: int) -> None:
    """In one order of all answers; firsts and seconds are at the same places."""
    answers = mixed(ratings, pairs)
    seen = []
    for number in range(training.batches(len(answers), 20, 1)):
        rows, values, preferences, weights = training.batch(answers, 1, 2, number, 20)
        r, p = len(values), len(preferences)
        assert rows.shape == (r + 2 * p, 128)
        assert weights.shape == (r + p, HEADS)
        seen += [(row.tobytes(), int(one)) for row, one in zip(rows[:r], values, strict=True)]
        both = np.concatenate([rows[r : r + p], rows[r + p :]], axis=1)
        seen += [(row.tobytes(), int(one)) for row, one in zip(both, preferences, strict=True)]
    pairs_in = np.concatenate([answers.firsts, answers.seconds], axis=1).astype("<f4")
    expected = [
        (row.tobytes(), int(one))
        for rows, values in (
            (answers.genomes.astype("<f4"), answers.ratings),
            (pairs_in, answers.preferences),
        )
        for row, one in zip(rows, values, strict=True)
    ]
    assert sorted(seen) == sorted(expected)


def test_a_pair_has_its_own_weights_and_fades() -> None:
    """Each head has its own, the same in all runs; ages count as those of labels."""
    answers = mixed(0, 20)
    found = {}
    for run in (0, 1):
        rows, _, _, weights = training.batch(answers, 3, run, 0)
        for row, weight in zip(rows[:20], weights, strict=True):
            place = answers.firsts.tolist().index(row.astype(int).tolist())
            np.testing.assert_allclose(weight.mean(), answers.weights[place], rtol=1e-5)
            assert found.setdefault(place, weight.tolist()) == weight.tolist()
            assert weight.std() > 0.2 * weight.mean()
    assert len(found) == 20


def test_ratings_alone_make_the_same_batches_as_ever() -> None:
    """Pairs are an addition: the bits of a run of ratings do not change."""
    rows, ratings, preferences, weights = training.batch(rated(45), 7, 1, 4)
    digest = hashlib.sha256(rows.tobytes() + ratings.tobytes() + weights.tobytes()).hexdigest()
    assert len(preferences) == 0
    assert digest[:16] == "9b4fab66e24529a0"


def reference_loss(
    scores: torch.Tensor, ratings: Integers, preferences: Integers, weights: torch.Tensor
) -> torch.Tensor:
    """The weighted sum of all losses, by torch."""
    r, p = len(ratings), len(preferences)
    values = torch.arange(6.0)
    logits = (scores[:r, :, None] * values - 0.5 * values**2) / SIGMA**2
    likely = torch.log_softmax(logits, 2)[torch.arange(r), :, torch.from_numpy(ratings)]
    total = -(weights[:r] * likely).sum()
    firsts, seconds = scores[r : r + p], scores[r + p :]
    log = torch.nn.functional.logsigmoid
    for place, preference in enumerate(preferences):
        first, second = firsts[place] / DECISION, seconds[place] / DECISION
        won, lost, middle = log(first - second), log(second - first), 2.5 / DECISION
        each = [-won, -lost, -(won + lost) / 2, -(won + lost) / 2][preference]
        if preference == 3:
            each = each - log(middle - first) - log(middle - second)
        total = total + (weights[r + place] * each).sum()
    return total


@pytest.mark.parametrize(("ratings", "pairs"), [(7, 9), (0, 8), (8, 0)])
def test_the_gradient_of_ratings_and_pairs_is_torchs(ratings: int, pairs: int) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(2.5, 2.0, size=(ratings + 2 * pairs, HEADS)).astype(np.float32)
    values, preferences = random.integers(0, 6, ratings), np.arange(pairs) % 4
    weights = random.exponential(size=(ratings + pairs, HEADS)).astype(np.float32)
    mean, gradient = training.loss(scores, values, preferences, weights, [1] * 6)
    theirs = torch.from_numpy(scores).double().requires_grad_()
    total = reference_loss(theirs, values, preferences, torch.from_numpy(weights).double())
    total.backward()
    assert mean == pytest.approx(total.item() / float(weights.sum()), rel=1e-5)
    assert gradient.dtype == np.float32
    assert theirs.grad is not None
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_a_vote_surprises_if_the_other_one_was_sure_to_win() -> None:
    assert training.surprise_of_vote("first", 1.0) == 0.0
    assert training.surprise_of_vote("second", 1.0) == pytest.approx(20.0)
    assert training.surprise_of_vote("equal", 0.5) == 0.0
    assert training.surprise_of_vote("first", 0.5) == pytest.approx(0.25 / 0.3)


def test_huge_scores_do_not_overflow() -> None:
    huge, ones = np.full((1, HEADS), 3e38, "<f4"), np.ones((1, HEADS), "<f4")
    loss, gradient = training.cross_entropy(huge, np.array([0]), ones, [1, 0, 0, 0, 0, 0])
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_huge_scores_of_pairs_do_not_overflow() -> None:
    huge = np.full((8, HEADS), 3e38, "<f4")
    huge[4:] *= -1
    mean, gradient = training.loss(
        huge, np.empty(0, np.int64), np.arange(4), np.ones((4, HEADS), "<f4"), [0] * 6
    )
    assert np.isfinite(mean)
    assert np.isfinite(gradient).all()
