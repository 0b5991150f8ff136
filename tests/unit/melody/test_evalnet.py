"""evalnet: its sizes, where it starts, and that it learns."""

import numpy as np
import pytest
import torch
from torch import nn

from roomgrad_melody.evalnet import model
from roomgrad_melody.genome import canonical, random_genomes, values


def inputs(number: int, count: int) -> torch.Tensor:
    """Random canonical melodies, `(count, 128)`."""
    return torch.from_numpy(canonical(random_genomes(1, number, count)).astype(np.float32))


def network_of(seed: int) -> model.EvalNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model.EvalNetwork()


def test_the_layers_have_the_sizes_of_the_product() -> None:
    layers = [one for one in network_of(0).modules() if isinstance(one, nn.Linear)]
    assert [(one.in_features, one.out_features) for one in layers] == [
        (128, 256),
        (256, 64),
        (64, 16),
        (16, 6),
    ]
    assert network_of(0)(inputs(0, 7)).shape == (7, 6)


def test_melodies_that_sound_alike_are_rated_alike() -> None:
    """Whatever the silent bits of their rests, which have a gradient all the same."""
    genomes = random_genomes(1, 7, 50)
    assert (canonical(genomes) != genomes).any()
    given = torch.from_numpy(genomes.astype(np.float32)).requires_grad_()
    network = network_of(0)
    logits, expected = network(given), network(inputs(7, 50))
    assert torch.equal(logits, expected)
    logits.sum().backward()
    alike = inputs(7, 50).requires_grad_()
    network(alike).sum().backward()
    assert torch.equal(given.grad, alike.grad)


def test_layer_1_starts_as_an_exact_decoder() -> None:
    layers = network_of(0).layers
    rows = inputs(2, 300)
    with torch.no_grad():
        units = layers[1](layers[0](rows)).numpy() / model.GAIN
    slots = values(rows.numpy().astype(np.uint8))
    expected = (slots[:, :, None] == np.arange(8)).reshape(len(rows), 256)
    np.testing.assert_allclose(units, expected, atol=1e-6)


def test_a_fresh_network_rates_alike_whatever_the_order_of_the_bars() -> None:
    network = network_of(3)
    rows = inputs(3, 50)
    moved = rows.reshape(50, 8, 16)[:, [3, 1, 4, 0, 5, 7, 2, 6]].reshape(50, 128)
    with torch.no_grad():
        np.testing.assert_allclose(network(rows), network(moved), atol=1e-4)


def test_a_fresh_network_expects_the_middle_and_neighbours_alike() -> None:
    with torch.no_grad():
        probs = model.probabilities(network_of(4)(inputs(4, 100)).numpy())
    assert np.abs(model.expected(probs) - 2.5).max() < 0.5
    assert (probs[:, 2] > probs[:, 1]).all()
    assert (probs[:, 1] > probs[:, 0]).all()


def test_probabilities_do_not_overflow() -> None:
    probs = model.probabilities([[1e4, 0.0, 0.0, 0.0, 0.0, 0.0], [-1e4] * 6])
    assert probs.dtype == np.float64
    np.testing.assert_allclose(probs, [[1, 0, 0, 0, 0, 0], [1 / 6] * 6])
    np.testing.assert_allclose(model.expected(probs), [0.0, 2.5])


def test_the_learning_rate_falls_and_stays_above_zero() -> None:
    optimizer = model.optimizer(network_of(0).parameters())
    [share] = model.schedule(optimizer).lr_lambdas
    rates = [model.LEARNING_RATE * share(step) for step in (0, 100, 10_000, 10**7)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(model.LEARNING_RATE)
    assert rates[-1] > 0.0


def test_it_learns_to_tell_many_notes_from_few() -> None:
    """A rater that the network was not made for: the share of slots that sound."""
    torch.set_num_threads(1)
    network = network_of(0)
    optimizer = model.optimizer(network.parameters())
    schedule = model.schedule(optimizer)
    rows, unseen = inputs(5, 200), inputs(6, 500)

    def rating(rows: torch.Tensor) -> torch.Tensor:
        """0 to 5: twelve to twenty notes."""
        notes = 32.0 - rows[:, 3::4].sum(dim=1)
        return ((notes - 11.0) / 2.0).clamp(0, 5).floor().long()

    for step in range(150):
        chosen = torch.arange(step * 20, step * 20 + 20) % 200
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(rows[chosen]), rating(rows[chosen])).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = model.expected(model.probabilities(network(unseen).numpy()))
    truth = rating(unseen).numpy()
    assert np.abs(found - truth).mean() < 0.5 * np.abs(truth.mean() - truth).mean()
