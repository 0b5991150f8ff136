"""evalnet: what it sees of a melody, where it starts, and that it learns."""

from typing import Any

import numpy as np
import pytest
import torch

from roomgrad import Message
from roomgrad_melody.contract import CUSTOM, EVOLUTION_ROOM, HEADS
from roomgrad_melody.evalnet import model
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.genome import Genomes, canonical, degrees, random_genomes
from roomgrad_melody.learner import training
from roomgrad_melody.ordinal import Floats, cautious, expected, lower_bound, mixture, probabilities
from tests.unit.melody.component_driver import Player


def melodies(number: int, count: int) -> Genomes:
    return canonical(random_genomes(1, number, count))


def inputs(genomes: Genomes) -> torch.Tensor:
    return torch.from_numpy(genomes.astype(np.float32))


def network_of(seed: int) -> model.EvalNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.EvalNetwork()


def scores(network: model.EvalNetwork, genomes: Genomes) -> Floats:
    with torch.no_grad():
        return np.asarray(network(inputs(genomes)).numpy(), np.float64)


def trained(genomes: Genomes, ratings: training.Integers, runs: int) -> model.EvalNetwork:
    """A network after some training runs on all labels."""
    return taught(training.Answers.of_ratings(genomes, ratings, np.ones(len(genomes))), runs)


def taught(answers: training.Answers, runs: int) -> model.EvalNetwork:
    """A network after some training runs on all answers."""
    torch.set_num_threads(1)
    network = network_of(0)
    optimizer = model.optimizer(network.parameters())
    given = np.bincount(answers.ratings, minlength=6).tolist()
    for run in range(runs):
        for number in range(training.batches(len(answers))):
            rows, *known = training.batch(answers, 0, run, number)
            found = network(torch.from_numpy(rows))
            _, gradient = training.loss(found.detach().numpy(), *known, given)
            optimizer.zero_grad()
            found.backward(torch.from_numpy(gradient))
            optimizer.step()
    return network


def test_melodies_that_sound_alike_are_rated_alike() -> None:
    """Whatever the silent bits of their rests, which have a gradient all the same."""
    genomes = random_genomes(1, 7, 50)
    alike = canonical(genomes)
    assert (alike != genomes).any()
    network = network_of(0)
    given, same = inputs(genomes).requires_grad_(), inputs(alike).requires_grad_()
    of_given, of_same = network(given), network(same)
    assert torch.equal(of_given, of_same)
    of_given.sum().backward()
    of_same.sum().backward()
    assert given.grad is not None
    assert same.grad is not None
    assert torch.equal(given.grad, same.grad)


def test_it_counts_degrees_steps_and_notes() -> None:
    """Counted here note by note, and there by products of bits."""
    network, genomes = network_of(0), melodies(2, 200)
    with torch.no_grad():
        found = network.features(inputs(genomes)) * network.deviations + network.means
    for row, counts in zip(degrees(genomes), found.numpy(), strict=True):
        places = [
            np.count_nonzero(row[place::4] == d) for place in range(4) for d in [*range(8), -1]
        ]
        notes = row[row >= 0].astype(int)
        steps = np.bincount(np.abs(np.diff(notes)), minlength=8)
        falls = np.bincount(np.maximum(0, -np.diff(notes)), minlength=8)
        rises = np.bincount(np.maximum(0, np.diff(notes)), minlength=8)
        density = [len(notes), (len(notes) - 16) ** 2]
        np.testing.assert_allclose(
            counts, [*places, *steps, *(rises - falls)[1:], *density], atol=1e-3
        )


def test_what_it_sees_is_standardized() -> None:
    """The counts of a kind share a variance of 1, so that no kind outweighs another."""
    with torch.no_grad():
        seen = network_of(0).features(inputs(melodies(3, 5000))).numpy()
    assert np.abs(seen.mean(axis=0)).max() < 0.05
    for kind in (slice(0, 36), slice(36, 44), slice(44, 51), slice(51, 53)):
        assert abs(seen[:, kind].var(axis=0).sum() - 1) < 0.25


def test_the_gradient_reaches_the_notes() -> None:
    rows = inputs(melodies(4, 3)).requires_grad_()
    network_of(0)(rows).sum().backward()
    assert rows.grad is not None
    assert (rows.grad.abs().sum(dim=1) > 0).all()


def test_without_labels_the_heads_expect_the_middle_and_differ() -> None:
    found = scores(network_of(4), melodies(4, 100))
    assert found.shape == (100, HEADS)
    np.testing.assert_allclose(found.mean(axis=1), 2.5, atol=1e-5)
    assert found.std(axis=1).min() > 0.2


@pytest.mark.parametrize("rating", [2, 3])
def test_the_first_belief_is_the_mean_of_the_ratings(rating: int) -> None:
    """After three answers, melodies that are unlike theirs are expected to be rated alike."""
    network = trained(melodies(7, 3), np.full(3, rating), 8)
    assert abs(expected(mixture(scores(network, melodies(8, 500)))).mean() - rating) < 0.2


def test_it_knows_what_it_does_not_know() -> None:
    """The heads agree on what was rated, and differ on what was not."""
    genomes = melodies(9, 20)
    network = trained(genomes, np.arange(20) % 6, 10)
    near, far = (
        expected(probabilities(scores(network, each))).std(axis=1).mean()
        for each in (genomes, melodies(10, 200))
    )
    assert near < 0.9 * far


def test_it_learns_to_tell_many_notes_from_few() -> None:
    """A rater that the network was not made for: twelve to twenty notes are 0 to 5."""

    def rating(genomes: Genomes) -> training.Integers:
        notes = (degrees(genomes) >= 0).sum(axis=1)
        return np.clip((notes - 11) // 2, 0, 5).astype(np.int64)

    rated, unseen = melodies(5, 60), melodies(6, 500)
    network = trained(rated, rating(rated), 10)
    truth = rating(unseen)
    error = np.abs(expected(mixture(scores(network, unseen))) - truth).mean()
    assert error < 0.5 * np.abs(truth.mean() - truth).mean()


def test_it_learns_from_preferences_alone() -> None:
    """Of two melodies the one with more notes is preferred; so it is of melodies not seen."""

    def notes(genomes: Genomes) -> training.Integers:
        return np.asarray((degrees(genomes) >= 0).sum(axis=1))

    firsts, seconds = melodies(20, 60), melodies(21, 60)
    more = np.sign(notes(seconds) - notes(firsts))
    preferences = np.array([2, 1, 0])[more]  # equal, second, first
    none = np.empty(0, np.int64)
    network = taught(
        training.Answers(firsts[:0], none, firsts, seconds, preferences, np.ones(60)), 10
    )
    new = melodies(22, 500)
    found = scores(network, new).mean(axis=1)
    assert np.corrcoef(found, notes(new))[0, 1] > 0.8


def test_melodies_that_neither_is_good_of_are_worse_than_the_middle() -> None:
    firsts, seconds = melodies(23, 30), melodies(24, 30)
    none = np.empty(0, np.int64)
    both_bad = np.full(30, 3)
    network = taught(training.Answers(firsts[:0], none, firsts, seconds, both_bad, np.ones(30)), 10)
    assert scores(network, melodies(25, 200)).mean() < 2.0


@pytest.mark.parametrize(("votes", "bound"), [(0, lower_bound), (1, cautious)])
def test_what_is_bred_for_is_a_lower_bound(votes: int, bound: Any) -> None:
    """Of the rating, or of the score, which does not end at 5, once raters have compared."""
    player = Player(evalnet, EvalnetSettings(seed=3))
    player.tables["learning"] = {"now": {"histogram": [0] * 6, "pairs": votes}}
    question = Message.open(EVOLUTION_ROOM, type=CUSTOM, GENOMES=melodies(1, 30))
    [answer] = player.hear(question)
    np.testing.assert_array_equal(answer.fields["FITNESS"], bound(answer.fields["SCORES"]))
