"""The tensors of a network: tied, frozen, and buffers; and another network's are refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from roomgrad.errors import ModelError, SchemaError
from roomgrad.learning.weights import Weights
from tests.unit.learning.models import dense


class Tied(nn.Module):
    """One weight in two layers, a frozen layer, and a buffer that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.frozen = (nn.Linear(2, 2, bias=False) for _ in range(3))
        self.second.weight = self.first.weight
        self.frozen.requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.zeros(2))
        self.first.register_buffer("shared", self.mean)
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        self.mean.add_(1)
        self.scratch.add_(1)
        found: Tensor = self.second(self.first(inputs)) + self.first.shared
        return found


def test_a_tied_tensor_is_stored_once() -> None:
    """By its first name; frozen parameters and buffers beside it, scratch values not."""
    weights = Weights(Tied())
    assert list(weights.tensors()) == ["first.weight", "frozen.weight", "mean"]
    assert list(weights.trainable) == ["first.weight"]


def test_the_network_computes_with_other_values_in_a_block_only() -> None:
    """Both places of a tied parameter, and buffers."""
    network = Tied()
    weights = Weights(network)
    weights.share()
    others = {name: torch.full_like(t, 3.0) for name, t in weights.tensors().items()}
    before = network.first.weight
    with weights.at(others) as [leaf]:
        assert network.first.weight is network.second.weight is leaf
        assert network.mean is network.first.shared
        assert leaf.tolist() == [[3, 3], [3, 3]]
        assert leaf.data_ptr() != others["first.weight"].data_ptr()
        assert network.mean.tolist() == [3, 3]
    assert network.first.weight is network.second.weight is before
    assert network.mean.tolist() == [0, 0]


def test_a_forward_pass_changes_copies_of_the_buffers() -> None:
    """What it changed is known after it, a shared buffer once."""
    network = Tied()
    weights = Weights(network)
    with weights.buffers_unchanged() as changed:
        network(torch.ones(1, 2))
        assert network.first.shared.tolist() == [1, 1]
    assert network.mean.tolist() == network.scratch.tolist() == [0, 0]
    assert {name: buffer.tolist() for name, buffer in changed.items()} == {"mean": [1, 1]}


def test_a_buffer_keeps_its_shape() -> None:
    """A state of another shape could be loaded by no replica."""
    network = Tied()
    weights = Weights(network)
    with (
        pytest.raises(SchemaError, match=r"turned mean from F32 \(2,\) into F32 \(3,\)"),
        weights.buffers_unchanged(),
    ):
        network.mean = torch.zeros(3)
    assert network.mean.tolist() == [0, 0]


def test_a_graph_keeps_its_values_when_the_parameters_move() -> None:
    """The step in place is seen by the network afterwards."""
    network = dense()
    weights = Weights(network)
    weights.share()
    leaf = network[0].weight
    before = leaf.detach().clone()
    weights.unshare()
    with torch.no_grad():
        weights.parameters["0.weight"].add_(1)
    assert torch.equal(leaf, before)
    assert torch.equal(network[0].weight, before + 1)


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (nn.Sequential(nn.Linear(2, 4)), r"0\.weight is F32 \(4, 2\) there, and F32 \(8, 2\) here"),
        (dense().double(), r"0\.weight is F64 \(8, 2\) there, and F32 \(8, 2\) here"),
        (dense()[:2], r"2\.weight is missing there, and F32 \(1, 8\) here"),
        (nn.Sequential(*dense(), nn.BatchNorm1d(1)), r"3\.weight is F32 \(1,\) there, and missing"),
    ],
)
def test_tensors_of_another_network_are_refused(network: nn.Module, text: str) -> None:
    """The error names the first that differs in name, shape or dtype; nothing is loaded."""
    weights = Weights(dense())
    before = {name: tensor.clone() for name, tensor in weights.tensors().items()}
    with pytest.raises(ModelError, match=text):
        weights.load(Weights(network).tensors())
    assert all(torch.equal(before[name], each) for name, each in weights.tensors().items())


def test_tensors_that_are_missing_are_refused() -> None:
    """Buffers and frozen parameters, too: they are another network's."""
    for name in ("mean", "frozen.weight"):
        weights = Weights(Tied())
        given = weights.tensors()
        del given[name]
        with pytest.raises(ModelError, match=rf"{name} is missing there, and F32 \(2"):
            weights.load(given)


def test_tensors_that_cannot_be_stored_are_refused() -> None:
    network = dense()
    network[0].weight = nn.Parameter(torch.zeros(8, 2, dtype=torch.complex128))
    with pytest.raises(ModelError, match=r"0\.weight has the dtype torch\.complex128, which"):
        Weights(network)
