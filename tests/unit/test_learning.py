"""A torch network as a model that lives in Redis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from torch import nn

from roomgrad.errors import MessageError
from roomgrad.learning import GRAPHS_KEPT, TorchModel
from roomgrad.models import ModelState

DATA = np.random.default_rng(0).standard_normal((5, 2)).astype("<f4")
UPSTREAM = np.random.default_rng(1).standard_normal((5, 1)).astype("<f4")


def make(seed: int = 0) -> TorchModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    return TorchModel(
        network, lambda parameters: torch.optim.Adam(parameters), lambda step: 0.01 / (step + 1)
    )


def state(model: TorchModel, version: str = "v", step: int = 0, **parts: bytes) -> ModelState:
    weights, optimizer = model.initial()
    made = ModelState(version, step, **{"weights": weights, "optimizer": optimizer, **parts})
    model.load(made)
    return made


def bits(products: Any) -> bytes:
    of_parameters, of_inputs = products
    return b"".join(part.numpy().tobytes() for part in of_parameters) + of_inputs.tobytes()


def test_a_recomputed_gradient_is_the_kept_graphs_bit_for_bit() -> None:
    """So that it does not matter which replica gets the gradient."""
    model = make()
    made = state(model)
    model.forward(DATA, "v", "key")
    kept = model.backward("key", "v", DATA, UPSTREAM)
    assert bits(kept) == bits(make(7).recompute(made.weights, DATA, UPSTREAM))


def test_a_graph_stays_what_it_was_when_the_weights_move_on() -> None:
    """The gradient of an older forward is at the weights that made it."""
    model = make()
    made = state(model)
    model.forward(DATA, "v", "old")
    model.forward(DATA, "v", "now")
    products = model.backward("now", "v", DATA, UPSTREAM)
    assert products is not None
    model.step(products[0])
    old = model.backward("old", "v", DATA, UPSTREAM)
    assert bits(old) == bits(make(7).recompute(made.weights, DATA, UPSTREAM))


def test_a_step_goes_on_from_what_was_stored() -> None:
    """Two steps of one model are two steps of two models, one after the other."""
    first = make()
    state(first)
    gradient = tuple(torch.ones(shape) for shape in ((8, 2), (8,), (1, 8), (1,)))
    weights, optimizer = first.step(gradient)
    second = make(7)
    state(second, "w", 1, weights=weights, optimizer=optimizer)
    one, other = first.step(gradient), second.step(gradient)
    assert one[0] == other[0]
    assert stored(one[1]) == stored(other[1])


def stored(tensors: bytes) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_tensors(tensors).items()}


def test_a_graph_of_other_weights_is_not_used() -> None:
    """A version that was rolled back may come again under another token."""
    model = make()
    state(model)
    model.forward(DATA, "v", "key")
    assert model.backward("key", "another", DATA, UPSTREAM) is None
    assert model.backward("unknown", "v", DATA, UPSTREAM) is None


def test_only_so_many_graphs_wait() -> None:
    """The oldest go first; their gradients are computed again."""
    model = make()
    state(model)
    for number in range(GRAPHS_KEPT + 1):
        model.forward(DATA, "v", str(number))
    assert model.backward("0", "v", DATA, UPSTREAM) is None
    assert model.backward("1", "v", DATA, UPSTREAM) is not None


def test_a_forward_without_a_key_keeps_nothing() -> None:
    """Validation: the same outputs, no graph."""
    model = make()
    state(model)
    np.testing.assert_array_equal(model.forward(DATA, "v", None), model.forward(DATA, "v", "key"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(value: float) -> None:
    """It is refused before anything changes."""
    model = make()
    before = state(model)
    gradient = tuple(torch.full(s, value) for s in ((8, 2), (8,), (1, 8), (1,)))
    with pytest.raises(MessageError, match=r"norm|finite"):
        model.step(gradient)
    assert model.initial() == (before.weights, before.optimizer)


def test_a_stale_gradient_counts_less() -> None:
    """The learning rate is divided by the root of 1 + staleness; a fresh one is as it was."""

    def moved(staleness: int) -> float:
        torch.manual_seed(0)
        network = nn.Linear(2, 1)
        model = TorchModel(network, lambda p: torch.optim.SGD(p, lr=1.0), lambda _: 0.5)
        before = model.initial()[0]
        weights, _ = model.step((torch.ones(1, 2), torch.ones(1)), staleness)
        return float((load_tensors(before)["weight"] - load_tensors(weights)["weight"]).abs().max())

    assert moved(0) == pytest.approx(0.5)
    assert moved(3) == pytest.approx(0.25)
