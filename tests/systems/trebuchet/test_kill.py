"""kill -9 of anything, at any time: the training finishes, exactly, with the same weights."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.systems.conftest import Start, Training, assert_exact
from tests.systems.trebuchet import reference

pytestmark = pytest.mark.timeout(180)

STEPS, BATCH = 300, 20


def kill(training: Training, component: str) -> None:
    """kill -9 of the first replica of a component; its launcher starts it again."""
    pids = {name: pid for name, pid in training.launcher.pids().items() if component in name}
    if pids:  # else it is dead already, and about to be started again
        os.kill(min(pids.values()), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_components_cost_nothing_but_time(train: Start, seed: int) -> None:
    """Each component dies twice, at random moments, in random order."""
    training = train(steps=STEPS, batch_size=BATCH, seed=seed)
    order = ["trainer", "controlmodel", "simulator"] * 2
    dice = random.Random(seed)
    dice.shuffle(order)
    for at, component in zip(sorted(dice.sample(range(5, STEPS - 20), 6)), order, strict=True):
        training.wait_applied(at)
        kill(training, component)
    assert_exact(training)
    assert training.launcher.restarts >= 3
    assert training.weights() == reference.train(STEPS, seed=seed, batch_size=BATCH).sha256


def test_a_killed_server_costs_nothing_but_time(train: Start) -> None:
    """Twice in the middle; with appendfsync everysec it may fall back, and work is redone."""
    training = train(steps=STEPS, batch_size=BATCH, seed=4)
    for at in (60, 180):
        training.wait_applied(at)
        training.kill_server()
    assert_exact(training)
    assert training.weights() == reference.train(STEPS, seed=4, batch_size=BATCH).sha256


def test_replicas_take_over_from_the_killed(train: Start) -> None:
    """Nobody starts them again at once: the other replica goes on with the message in hand."""
    replicas = {"controlmodel": 2, "simulator": 2, "trainer": 2}
    training = train(steps=STEPS, batch_size=BATCH, seed=5, replicas=replicas)
    for at, component in ((30, "simulator"), (90, "controlmodel"), (150, "trainer")):
        training.wait_applied(at)
        kill(training, component)
    assert_exact(training)
    assert training.weights() == reference.train(STEPS, seed=5, batch_size=BATCH).sha256
