"""Optimizers and schedulers: their state goes on in another process, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim import Optimizer
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import LRScheduler

from roomgrad.errors import ModelError
from roomgrad.learning import TorchModel
from roomgrad.learning.files import read
from tests.unit.learning.models import adam, continued, dense, learn, tensors

MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.01, amsgrad=True),
    "fused": lambda parameters: optim.Adam(parameters, lr=0.01, fused=True),
    "rate in a tensor": lambda parameters: optim.Adam(parameters, lr=torch.tensor(0.01)),
    "Adagrad": lambda parameters: optim.Adagrad(parameters, initial_accumulator_value=0.1),
    "RMSprop": lambda parameters: optim.RMSprop(parameters, momentum=0.5, centered=True),
    "Rprop": lambda parameters: optim.Rprop(parameters),
    "NAdam": lambda parameters: optim.NAdam(parameters),
    "ASGD": lambda parameters: optim.ASGD(parameters),
    "Adafactor": lambda parameters: optim.Adafactor(parameters),
}


def halves(optimizer: Optimizer) -> LRScheduler:
    return schedulers.SequentialLR(
        optimizer,
        [
            schedulers.LambdaLR(optimizer, lambda step: (step + 1) / 3),
            schedulers.MultiStepLR(optimizer, [2, 2, 4], 0.5),
        ],
        [2],
    )


SCHEDULERS: dict[str, MakeScheduler] = {
    "functions and Counters in a sequence": halves,
    "cosine": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, 10),
    "one cycle": lambda optimizer: schedulers.OneCycleLR(optimizer, 0.1, 20),
    "cyclic": lambda optimizer: schedulers.CyclicLR(optimizer, 0.01, 0.1, 3),
    "chained": lambda optimizer: schedulers.ChainedScheduler(
        [schedulers.StepLR(optimizer, 2), schedulers.ExponentialLR(optimizer, 0.9)]
    ),
}


class Counting(optim.SGD):
    """Counts its steps in its groups, as some optimizers do."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["k"] = group.get("k", 0) + 1
            group["lr"] = 1 / group["k"]
        super().step(closure)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_an_optimizer_goes_on_in_another_process(name: str) -> None:
    """Three steps here and two there are five, to the last bit."""

    def make() -> TorchModel:
        return TorchModel(dense(), OPTIMIZERS[name])

    assert continued(make, 3, 2) == learn(make(), 5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_one_process(name: str) -> None:
    """The step that the model tries at the start is undone, also in a state of the constructor."""
    torch.set_num_threads(1)
    network = dense()
    optimizer = OPTIMIZERS[name](list(network.parameters()))
    gradients = [torch.full_like(p, 0.5) for p in network.parameters()]
    for _ in range(3):
        for parameter, each in zip(network.parameters(), gradients, strict=True):
            parameter.grad = each.clone()
        optimizer.step()
    model = TorchModel(dense(), OPTIMIZERS[name])
    assert model._updater is not None
    for _ in range(3):
        model._updater.update([each.clone() for each in gradients])
    found = model.weights()
    for key, parameter in network.named_parameters():
        assert torch.equal(found[key], parameter), key


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on_in_another_process(name: str) -> None:
    def make() -> TorchModel:
        sgd = OPTIMIZERS["momentum"]
        return TorchModel(dense(), sgd, scheduler=SCHEDULERS[name])

    assert continued(make, 3, 4) == learn(make(), 7)


def test_a_scheduler_changes_rates_after_each_update() -> None:
    """The same rates as in one process; a group has its own."""

    def rates(optimizer: Optimizer, step: Callable[[], object]) -> list[float]:
        found = []
        for _ in range(6):
            found.append(optimizer.param_groups[0]["lr"])
            step()
        return found

    model = TorchModel(dense(), adam, scheduler=halves)
    updater = model._updater
    assert updater is not None
    own = optim.SGD([torch.zeros(1)], lr=0.01)
    schedule = halves(own)

    def step() -> None:
        own.step()
        schedule.step()

    assert rates(updater._optimizer, lambda: learn(model)) == rates(own, step)


def test_state_in_groups_is_stored_and_the_trial_step_is_not_counted() -> None:
    def make() -> TorchModel:
        return TorchModel(dense(), lambda parameters: Counting(parameters, lr=1.0))

    assert continued(make, 2, 2) == learn(make(), 4)
    [group] = read(learn(make(), 3))[1]["optimizer"]["groups"]
    assert group["k"] == 3


def test_groups_may_be_taken_from_the_network() -> None:
    """With rates of their own; a parameter in no group stays as it is."""
    network = dense()
    last = network[2]
    model = TorchModel(network, lambda _: optim.SGD([{"params": last.parameters(), "lr": 0.1}]))
    before, after = model.weights(), tensors(learn(model))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"2.weight", "2.bias"}


def test_parameters_of_no_dimension_have_a_state() -> None:
    """A scale learned for the whole output."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.sum(1, keepdim=True) * self.scale

    def make() -> TorchModel:
        return TorchModel(Scale(), adam)

    assert continued(make, 2, 1) == learn(make(), 3)


class Odd(optim.SGD):
    """Stores what a test tells it."""

    value: Any = None

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        parameter = self.param_groups[0]["params"][0]
        self.state[parameter]["odd"] = self.value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (len, r"Odd: odd of 0\.weight is a builtin_function_or_method, which cannot be stored"),
        (torch.zeros(1, dtype=torch.complex128), r"odd of 0\.weight is a torch\.complex128"),
        (torch.zeros(2, 2).to_sparse(), r"odd of 0\.weight is a "),
    ],
)
def test_a_state_that_cannot_be_stored_is_refused(
    value: Any, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start, by the step that is tried; the error names the parameter."""
    monkeypatch.setattr(Odd, "value", value)
    with pytest.raises(ModelError, match=text):
        TorchModel(dense(), lambda parameters: Odd(parameters, lr=0.1))


def test_state_beside_that_of_parameters_is_refused() -> None:
    class Beside(optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            self.state["global"] = {"steps": 1}

    with pytest.raises(ModelError, match="Beside stores 'global' beside the state of its param"):
        TorchModel(dense(), lambda parameters: Beside(parameters, lr=0.1))


def test_optimizers_and_schedulers_that_rooms_cannot_drive_are_refused() -> None:
    with pytest.raises(ModelError, match="LBFGS computes the loss several times in a step"):
        TorchModel(dense(), lambda parameters: optim.LBFGS(parameters))
    with pytest.raises(ModelError, match="ReduceLROnPlateau needs the loss"):
        TorchModel(dense(), adam, scheduler=lambda o: schedulers.ReduceLROnPlateau(o))
    with pytest.raises(ModelError, match=r"SGD has a parameter of shape \(3,\) that is none of"):
        TorchModel(dense(), lambda _: optim.SGD([torch.zeros(3)], lr=0.1))


@pytest.mark.parametrize(
    ("stored", "here", "text"),
    [
        ("momentum", "AdamW", r"than AdamW: step of 0\.weight is missing there, and \(\) here"),
        ("AdamW", "momentum", r"than SGD: momentum_buffer of 0\.weight is missing there"),
        ("fused", "AdamW", r"max_exp_avg_sq of 0\.weight is missing there, and \(8, 2\) here"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(stored: str, here: str, text: str) -> None:
    """A sentence before the first step, in place of a KeyError in each."""
    content = learn(TorchModel(dense(), OPTIMIZERS[stored]))
    other = TorchModel(dense(), OPTIMIZERS[here])
    with pytest.raises(ModelError, match=text):
        other.load(content)
