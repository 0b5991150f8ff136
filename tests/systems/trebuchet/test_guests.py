"""Loops of torch and JAX train through the trebuchet, beside its own trainer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import torch

import roomgrad.jax
from roomgrad.torch import Through
from tests.systems.conftest import QUICK, Start, Training, assert_exact
from tests.waiting import LIMIT_S, until

PAIRS = torch.tensor([[3.0, 60.0], [0.0, 40.0], [-2.0, 70.0]])
CONTROLS = [[3.0, 0.4, -0.3], [-2.0, -0.2, 0.5]]


def through(training: Training, enter: str = "input", **options: object) -> Through:
    return Through(
        "trebuchet",
        enter,
        "output",
        run=training.names.run,
        redis_url=training.server.url,
        **{"timeout_s": LIMIT_S, **options},  # type: ignore[arg-type]
    )


def started(train: Start, *components: str) -> Training:
    """Start some components of the trebuchet, and no trainer."""
    training = train(steps=1000, launched=False)
    for each in components:
        training.launcher.start(each, training.plan.flags(each) + QUICK, 1)
    return training


def lags(training: Training) -> list[int]:
    """Return what each group of the run has yet to read."""
    streams = [training.names.stream(*each.key) for each in training.plan.contract.streams]
    return [each["lag"] for key in streams for each in training.client.xinfo_groups(key)]


def test_a_trainer_that_trains_beside_a_guest_notices_nothing(train: Start) -> None:
    """No dead letter, no lag, no batch more or less."""
    training = train(steps=60)
    training.wait_applied(3)
    other = through(training, learn=False)
    for _ in range(15):
        x = PAIRS.clone().requires_grad_()
        other(x).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
    with torch.no_grad():
        assert other(PAIRS).shape == (3,)
    other.close()
    assert_exact(training)
    assert set(lags(training)) == {0}


def test_the_control_model_learns_from_a_guest_as_from_its_trainer(train: Start) -> None:
    """In a run that has no trainer: `output` has no reader, and needs none."""
    training = started(train, "controlmodel", "simulator")
    loop = through(training)
    torch.manual_seed(0)
    losses = []
    for _ in range(120):
        x = torch.rand(100, 2) * torch.tensor([10.0, 60.0]) + torch.tensor([-5.0, 30.0])
        loss = (loop(x) - x[:, 1]).square().mean()
        loss.backward()
        losses.append(loss.item())
    assert training.applied == 120
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    loop.close()
    until(lambda: training.leftovers() == {})
    assert training.client.xlen(training.names.dead()) == 0


def test_the_gradient_of_the_simulator_is_that_of_differences(train: Start) -> None:
    """Through float32, so in larger steps and with larger tolerances than `gradcheck` has."""
    training = started(train, "simulator")
    world = through(training, "model", learn=False)
    x = torch.tensor(CONTROLS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(world, (x,), eps=1e-2, atol=5e-2, rtol=1e-2)
    world.close()
    f = roomgrad.jax.through(
        "trebuchet",
        "model",
        "output",
        learn=False,
        run=training.names.run,
        redis_url=training.server.url,
        timeout_s=LIMIT_S,
    )
    found = jax.jit(jax.grad(lambda x: f(x).sum()))(jnp.array(CONTROLS))
    (y := x.detach().float().requires_grad_()).retain_grad()
    world(y).sum().backward()
    assert y.grad is not None
    assert jnp.abs(found - y.grad.numpy()).max() < 1e-3
    world.close()
