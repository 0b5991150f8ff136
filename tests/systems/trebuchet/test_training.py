"""The trebuchet learns: real components, tiny numbers."""

from __future__ import annotations

import numpy as np
import pytest

from roomgrad.redis.client import Client
from roomgrad_trebuchet.contract import FORWARD, INPUT, OUTPUT, TREBUCHET
from tests.systems.conftest import Start, assert_exact

pytestmark = pytest.mark.timeout(120)


def test_the_loss_falls(train: Start) -> None:
    """A hundred and fifty batches of a hundred, and the shots fall nearer to their targets."""
    training = train(batch_size=100, steps=150)
    assert_exact(training)
    misses = training.misses()
    assert len(misses) == 150
    assert np.mean(misses[-10:]) < 0.25 * np.mean(misses[:10])


def test_the_original_preset_learns_too(train: Start) -> None:
    """More slowly."""
    training = train(batch_size=100, steps=120, preset="original")
    assert_exact(training)
    misses = training.misses()
    assert np.mean(misses[-10:]) < 0.9 * np.mean(misses[:10])


def test_a_window_of_several_batches_is_as_exact(train: Start) -> None:
    """Asynchronous, on several replicas: every batch once, kept weights all freed."""
    training = train(steps=80, window=4, replicas={"controlmodel": 2, "simulator": 2})
    assert_exact(training)


def test_a_question_is_answered_while_the_system_learns(train: Start) -> None:
    """Distance, angle, weight and status; the counters stay exact."""
    training = train(steps=60)
    training.wait_applied(5)
    with Client(TREBUCHET, training.names.run, training.server.url) as client:
        data = np.array([[3.0, 60.0], [0.0, 40.0]], "<f4")
        answer = client.ask(INPUT, FORWARD, data, answer=(OUTPUT, FORWARD))
    assert answer.array.shape == (2,)
    assert set(answer.fields) == {"ANGLE", "WEIGHT", "STATUS"}
    assert_exact(training)
