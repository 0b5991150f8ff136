"""A torch network as a model that several replicas train as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from roomgrad.errors import MessageError, ModelError, SchemaError
from roomgrad.learning import TorchModel
from roomgrad.learning.files import TensorFile
from roomgrad.learning.model import GRAPHS_KEPT, Gradient
from roomgrad.learning.tensors import to_array
from roomgrad.models import ForwardPass, ModelState
from tests.unit.learning.models import (
    DATA,
    NOW,
    UPSTREAM,
    adam,
    bits,
    continued,
    dense,
    gradient,
    learn,
    loaded,
    loaded_model,
)

WEIGHTS = ((8, 2), (8,), (1, 8), (1,))


def make(seed: int = 0) -> TorchModel:
    def falling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))

    return TorchModel(dense(seed), adam, scheduler=falling)


def at(weights: bytes, made: ForwardPass = NOW) -> bytes:
    """Return the gradients that a model of other weights computes at these."""
    other = make(7)
    return bits(other.backward("no graph", made, UPSTREAM, lambda: weights))


def not_called() -> bytes | None:
    raise AssertionError("a graph is kept, so weights are not needed")


def test_a_recomputed_gradient_is_the_kept_graphs_bit_for_bit() -> None:
    """So that it does not matter which replica gets the gradient."""
    model = make()
    made = loaded(model)
    model.forward(NOW, "key")
    assert bits(model.backward("key", NOW, UPSTREAM, not_called)) == at(made.weights)


def test_a_graph_stays_what_it_was_when_the_weights_move_on() -> None:
    """The gradient of an older forward is at the weights that made it."""
    model = make()
    made = loaded(model)
    model.forward(NOW, "old")
    model.forward(NOW, "now")
    of_parameters, _ = model.backward("now", NOW, UPSTREAM, not_called)
    model.step(of_parameters, NOW, False, 0)
    old = model.backward("old", NOW, UPSTREAM, not_called)
    assert bits(old) == at(made.weights)
    assert bits(old) != at(model.initial()[0])


def test_a_step_goes_on_from_what_was_stored() -> None:
    """Two steps of one model are two steps of two models, one after the other."""
    assert continued(make, 1, 1) == learn(loaded_model(make), 2)


def test_a_graph_of_other_weights_is_not_used() -> None:
    """A version that was rolled back may come again under another token."""
    model = make()
    loaded(model)
    model.forward(NOW, "key")
    other = ForwardPass(NOW.inputs, NOW.seed, "another")
    weights = make(7).initial()[0]
    assert bits(model.backward("key", other, UPSTREAM, lambda: weights)) == at(weights)


def test_only_so_many_graphs_wait() -> None:
    """The oldest go first; their gradients are computed again."""
    model = make()
    loaded(model)
    for number in range(GRAPHS_KEPT + 1):
        model.forward(NOW, str(number))
    asked = []

    def weights() -> bytes | None:
        asked.append(True)

    model.backward("1", NOW, UPSTREAM, weights)
    assert asked == []
    model.backward("0", NOW, UPSTREAM, weights)
    assert asked == [True]


def test_a_forward_without_a_key_is_an_evaluation() -> None:
    """Dropout passes everything, statistics stay, and nothing is drawn."""
    model = TorchModel(nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 1)), adam)
    before = loaded(model)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    answers = [model.forward(ForwardPass({"DATA": DATA}, n, "v"), None)["DATA"] for n in (1, 2)]
    np.testing.assert_array_equal(*answers)
    one = model.forward(ForwardPass({"DATA": DATA[:1]}, 1, "v"), None)["DATA"]
    np.testing.assert_allclose(one, answers[0][:1], rtol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.initial() == (before.weights, before.optimizer)


def test_dropout_is_a_function_of_the_seed() -> None:
    """A kept graph, another replica, and one process that calls manual_seed draw the same."""

    def dropping() -> TorchModel:
        return TorchModel(
            nn.Sequential(dense(), nn.Dropout(0.5), nn.Linear(1, 1, bias=False)), adam
        )

    torch.manual_seed(0)
    model = dropping()
    state = loaded(model)
    found = model.forward(NOW, "key")["DATA"]
    kept = bits(model.backward("key", NOW, UPSTREAM, not_called))
    other = dropping()
    assert kept == bits(other.backward("key", NOW, UPSTREAM, lambda: state.weights))
    changed = ForwardPass(NOW.inputs, NOW.seed + 1, "v")
    assert kept != bits(other.backward("key", changed, UPSTREAM, lambda: state.weights))
    model.network.train()
    torch.manual_seed(NOW.seed)
    np.testing.assert_array_equal(found, model.network(torch.tensor(DATA)).detach().numpy())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(value: float) -> None:
    """It is refused before anything changes; the error names the parameter."""
    model = make()
    before = loaded(model)
    parts: list[Tensor | None] = [torch.ones(shape) for shape in WEIGHTS]
    parts[2] = torch.full(WEIGHTS[2], value)
    with pytest.raises(MessageError, match=r"norm (nan|inf), of 2\.weight: not learned"):
        model.step(Gradient(parts, {}), NOW, False, 0)
    assert model.initial() == (before.weights, before.optimizer)


def test_a_stale_gradient_counts_less() -> None:
    """Each rate is divided by the root of 1 + staleness; a fresh gradient counts as before."""

    def moved(*staleness: int) -> list[float]:
        torch.manual_seed(0)
        network = nn.Linear(2, 1)
        model = TorchModel(network, lambda _: torch.optim.SGD(groups(network), lr=0.5))
        for each in staleness:
            before = load_tensors(model.initial()[0])
            ones = Gradient([torch.ones(1, 2), torch.ones(1)], {})
            after = load_tensors(model.step(ones, NOW, True, each)[0])
        return [float((before[n] - after[n]).abs().max()) for n in ("weight", "bias")]

    assert moved(0) == pytest.approx([0.5, 0.1])
    assert moved(3) == pytest.approx([0.25, 0.05])
    assert moved(3, 0) == pytest.approx([0.5, 0.1])


def groups(network: nn.Linear) -> list[dict[str, Any]]:
    return [{"params": [network.weight]}, {"params": [network.bias], "lr": 0.1}]


def test_the_weights_change_with_each_kth_gradient_by_their_mean() -> None:
    """The sum until then is stored, and goes on in another process, clipped like one gradient."""

    def summing() -> TorchModel:
        return TorchModel(dense(), adam, accumulate=3, max_grad_norm=0.01)

    model = summing()
    loaded(model)
    before = model.initial()[0]
    assert learn(model, 2)[0] == before
    weights, optimizer = learn(model, 1)
    assert weights != before
    assert continued(summing, 2, 1) == (weights, optimizer)
    at_once = TorchModel(dense(), adam, max_grad_norm=0.01)
    loaded(at_once)
    one = load_tensors(learn(at_once)[0])
    for name, each in load_tensors(weights).items():
        torch.testing.assert_close(each, one[name])


def test_fewer_gradients_to_add_up_count_at_once() -> None:
    """A run whose component was changed to `accumulate=2` when the sum had three gradients."""
    first = TorchModel(dense(), adam, accumulate=4)
    loaded(first)
    weights, optimizer = learn(first, 3)
    other = TorchModel(dense(), adam, accumulate=2)
    loaded(other, weights=weights, optimizer=optimizer)
    assert learn(other)[0] != weights


def test_statistics_change_with_the_step_of_their_batch() -> None:
    """Not with the forward pass; on a model that has moved on, by its own forward pass."""
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    model = TorchModel(network, adam)
    loaded(model)
    model.forward(NOW, "key")
    first = gradient(model)
    mean = "0.running_mean"
    assert torch.equal(load_tensors(model.initial()[0])[mean], torch.zeros(2))
    weights, _ = model.step(first, NOW, False, 0)
    torch.testing.assert_close(load_tensors(weights)[mean], torch.tensor(DATA.mean(0) * 0.1))
    weights, _ = model.step(first, NOW, True, 1)
    torch.testing.assert_close(load_tensors(weights)[mean], torch.tensor(DATA.mean(0) * 0.19))
    assert int(load_tensors(weights)["0.num_batches_tracked"]) == 2


class Named(nn.Module):
    """Inputs and outputs by name; an input and an output are of integers, without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 2)

    def forward(self, IDS: Tensor, SCALE: Tensor) -> dict[str, Tensor]:
        found = self.table(IDS) * SCALE
        return {"VALUES": found, "ALSO": found, "BEST": found.argmax(1)}


NAMED = ForwardPass({"IDS": np.array([1, 3]), "SCALE": np.array([[2.0], [3.0]], "<f4")}, 0, "v")
ONES = np.ones((2, 2), "<f4")


def test_integer_inputs_have_no_gradient_and_missing_upstream_is_zero() -> None:
    """Of three outputs only one is answered: the others count as zero."""
    model = TorchModel(Named(), adam)
    loaded(model)
    table = load_tensors(model.initial()[0])["table.weight"].numpy()
    outputs = model.forward(NAMED, "key")
    assert list(outputs) == ["VALUES", "ALSO", "BEST"]
    of_parameters, of_inputs = model.backward("key", NAMED, {"VALUES": ONES}, not_called)
    assert list(of_inputs) == ["SCALE"]
    np.testing.assert_allclose(of_inputs["SCALE"], table[[1, 3]].sum(1, keepdims=True), rtol=1e-6)
    [of_table] = of_parameters.parameters
    assert of_table is not None
    assert of_table.tolist() == [[0, 0], [2, 2], [0, 0], [3, 3]]


def test_one_tensor_under_two_names_gets_both_gradients() -> None:
    model = TorchModel(Named(), adam)
    loaded(model)
    upstream = {"VALUES": ONES, "ALSO": ONES, "BEST": np.zeros(2, "<i8")}
    of_parameters, _ = model.backward("no graph", NAMED, upstream, lambda: None)
    [of_table] = of_parameters.parameters
    assert of_table is not None
    assert of_table[1].tolist() == [4, 4]


def test_outputs_that_need_no_gradient_teach_nothing() -> None:
    """All parameters are frozen or unused: the inputs still get their gradient."""
    network = Named()
    network.table.requires_grad_(requires_grad=False)
    model = TorchModel(network, adam)
    before = loaded(model)
    upstream = {"BEST": np.zeros(2, "<i8")}
    of_parameters, of_inputs = model.backward("no graph", NAMED, upstream, lambda: None)
    assert of_inputs["SCALE"].tolist() == [[0], [0]]
    assert model.step(of_parameters, NAMED, False, 0)[0] == before.weights


@pytest.mark.parametrize(
    ("upstream", "text"),
    [
        ({"VALUES": ONES[:1]}, r"VALUES: expected \(2, 2\) torch.float32 like the output, got \(1"),
        ({"VALUES": ONES.astype("<f8")}, r"got \(2, 2\) torch.float64"),
        ({"SCORE": ONES}, "gradients of SCORE, expected those of the outputs VALUES, ALSO, BEST"),
    ],
)
def test_gradients_that_do_not_fit_the_outputs_are_refused(upstream: Any, text: str) -> None:
    model = TorchModel(Named(), adam)
    loaded(model)
    with pytest.raises(SchemaError, match=text):
        model.backward("no graph", NAMED, upstream, lambda: None)


class Returning(nn.Module):
    """A network that returns what it is told, whatever comes in."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.value = value

    def forward(self, _: Tensor) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "the network returned None, expected a tensor or tensors by name"),
        (np.zeros(3), "the network returned array"),
        ((torch.zeros(3), torch.zeros(2)), r"the network returned \(tensor"),
        ({}, "the network returned {}"),
        ({"DATA": None}, "the network returned None as 'DATA', expected tensors by name"),
        ({1: torch.zeros(3)}, "as 1, expected tensors by name"),
    ],
)
def test_a_network_returns_tensors(value: Any, text: str) -> None:
    model = TorchModel(Returning(value), adam)
    loaded(model)
    with pytest.raises(SchemaError, match=text):
        model.forward(NOW, "key")


def test_a_network_may_change_its_inputs_in_place() -> None:
    """As in one process, where they need no gradient."""

    class Scaled(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs.mul_(2))

    model = TorchModel(Scaled(2, 1), adam)
    loaded(model)
    weight = load_tensors(model.initial()[0])["weight"].numpy()
    _, of_inputs = model.backward("no graph", NOW, UPSTREAM, lambda: None)
    np.testing.assert_allclose(of_inputs["DATA"], 2 * UPSTREAM["DATA"] @ weight, rtol=1e-6)
    np.testing.assert_array_equal(NOW.inputs["DATA"], DATA)


def test_half_precision_is_learned_and_stored_as_it_is() -> None:
    """bfloat16 parameters, and the state of Adam beside them."""

    def half() -> TorchModel:
        return TorchModel(dense().bfloat16(), adam)

    model = half()
    loaded(model)
    made = ForwardPass({"DATA": to_array(torch.tensor(DATA).bfloat16())}, 0, "v")
    outputs = model.forward(made, "key")["DATA"]
    assert outputs.dtype.name == "bfloat16"
    of_parameters, of_inputs = model.backward("key", made, {"DATA": outputs}, not_called)
    assert of_inputs["DATA"].dtype.name == "bfloat16"
    weights, optimizer = model.step(of_parameters, made, False, 0)
    assert {each.dtype for each in load_tensors(weights).values()} == {torch.bfloat16}
    other = half()
    loaded(other, weights=weights, optimizer=optimizer)
    assert other.initial() == (weights, optimizer)


def test_lazy_modules_get_their_shapes_from_an_example() -> None:
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))

    model = TorchModel(lazy(), adam, example=DATA)
    assert load_tensors(model.initial()[0])["0.weight"].shape == (3, 2)
    with pytest.raises(ModelError, match=r"0\.weight has no shape .* give TorchModel an example="):
        TorchModel(lazy(), adam)


def test_a_device_that_is_missing_is_a_sentence() -> None:
    device = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ModelError, match=f"device='{device}' cannot be used: "):
        TorchModel(dense(), adam, device=device)


def test_accumulating_no_gradients_is_refused() -> None:
    with pytest.raises(ValueError, match="accumulate: expected at least 1, got 0"):
        TorchModel(dense(), adam, accumulate=0)


def test_the_state_of_an_older_release_is_read() -> None:
    """Its weights have no buffers, and its optimizer's tensors are called NAME.KEY."""
    model = TorchModel(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)), adam)
    loaded(model)
    weights, optimizer = (load_tensors(each) for each in learn(model))
    older = {n: each for n, each in weights.items() if "running" not in n and "num" not in n}
    state = {n.removeprefix("optimizer/").replace("/", "."): each for n, each in optimizer.items()}
    assert "1.weight.exp_avg" in state
    other = TorchModel(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)), adam)
    stored = TensorFile().bytes_of(older)
    other.load(ModelState("w", 1, stored, TensorFile().bytes_of(state)))
    found = [load_tensors(each) for each in other.initial()]
    for name, each in older.items():
        assert torch.equal(found[0][name], each)
    for name, each in optimizer.items():
        assert torch.equal(found[1][name], each)
    other.backward("no graph", NOW, UPSTREAM, lambda: stored)  # of a forward before the change
