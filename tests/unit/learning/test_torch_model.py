"""A torch network as a model that several replicas train as one."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save
from torch import Tensor, nn

from roomgrad import (
    Component,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    weight_messages,
)
from roomgrad.codec import pack, unpack
from roomgrad.errors import MessageError, ModelError, SchemaError
from roomgrad.learning import TorchModel
from roomgrad.learning.files import merged, read
from roomgrad.learning.tensors import to_array
from roomgrad.learning.updates import Gradient
from roomgrad.models import ForwardPass
from roomgrad.runtime.model.log import StepRecord, gradient_body, replay
from roomgrad.testing import call
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
    step,
    tensors,
    weights_of,
)


def make(seed: int = 0) -> TorchModel:
    def falling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))

    return TorchModel(dense(seed), adam, scheduler=falling)


def at(weights: dict[str, Tensor], made: ForwardPass = NOW) -> bytes:
    """Return the gradients that a model of other weights computes at these."""
    other = make(7)
    return bits(other.backward("no graph", made, UPSTREAM, lambda: weights))


def not_called() -> Any:
    raise AssertionError("a graph is kept, so weights are not needed")


def test_a_recomputed_gradient_is_the_kept_graphs_bit_for_bit() -> None:
    """So that it does not matter which replica gets the gradient."""
    model = make()
    model.forward(NOW, "key")
    assert bits(model.backward("key", NOW, UPSTREAM, not_called)) == at(model.weights())


def test_a_graph_stays_what_it_was_when_the_weights_move_on() -> None:
    """The gradient of an older forward is at the weights that made it."""
    model = make()
    before = model.weights()
    model.forward(NOW, "old")
    model.forward(NOW, "now")
    of_parameters, _ = model.backward("now", NOW, UPSTREAM, not_called)
    step(model, of_parameters)
    old = model.backward("old", NOW, UPSTREAM, not_called)
    assert bits(old) == at(before)
    assert bits(old) != at(model.weights())


def test_a_step_goes_on_from_what_was_stored() -> None:
    """Two steps of one model are two steps of two models, one after the other."""
    assert continued(make, 1, 1) == learn(make(), 2)


def test_a_graph_of_other_weights_is_not_used() -> None:
    """A version that was rolled back may come again under another token."""
    model = make()
    model.forward(NOW, "key")
    other = ForwardPass(NOW.inputs, NOW.seed, "another")
    weights = make(7).weights()
    assert bits(model.backward("key", other, UPSTREAM, lambda: weights)) == at(weights)


def test_graphs_that_wait_have_a_limit_in_bytes() -> None:
    """The oldest go first; their gradients are computed again. The newest always stays."""
    model = make()
    model.graphs_bytes = 1
    for number in range(2):
        model.forward(NOW, str(number))
    asked = []

    def weights() -> None:
        asked.append(True)

    model.backward("1", NOW, UPSTREAM, weights)
    assert asked == []
    model.backward("0", NOW, UPSTREAM, weights)
    assert asked == [True]


def wide() -> TorchModel:
    return TorchModel(nn.Sequential(nn.Linear(2, 1000), nn.Linear(1000, 1)), adam)


def copies_kept(model: TorchModel, steps: int) -> int:
    """Return how many copies of the weights exist after steps with forward passes in between.

    Another replica gets the gradients of these.
    """
    copies = []
    for number in range(steps):
        model.forward(NOW, str(number))
        copies.append(weakref.ref(model.network[0].weight))
        step(model, gradient(model))
    return alive(copies)


def alive(references: list[weakref.ref[Any]]) -> int:
    gc.collect()
    return len({id(each()) for each in references if each() is not None})


def test_the_limit_counts_the_weights_that_graphs_hold() -> None:
    """A step moves the parameters elsewhere while a graph needs them: a copy for each step."""
    model = wide()
    assert copies_kept(model, 12) > 10
    model = wide()
    model.graphs_bytes = 3 * sum(each.nbytes for each in model.weights().values())
    assert copies_kept(model, 12) <= 4


def test_a_step_that_is_repeated_drops_the_graph_of_its_forward_pass() -> None:
    other, model = wide(), wide()
    loaded(model, bytes(other.dump()))
    copies = []
    for number in range(12):
        model.forward(NOW, str(number))
        copies.append(weakref.ref(model.network[0].weight))
        update = other.prepare(gradient(other), NOW, moved_on=False, staleness=0)
        other.apply(update)
        body = gradient_body(other, update)
        assert replay(model, StepRecord("a", "b", number, body, key=str(number)))
    assert alive(copies) == 1
    assert bytes(model.dump()) == bytes(other.dump())


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
    assert bytes(model.dump()) == before


def test_dropout_is_a_function_of_the_seed() -> None:
    """A kept graph, another replica, and one process that calls manual_seed draw the same."""

    def dropping() -> TorchModel:
        return TorchModel(
            nn.Sequential(dense(), nn.Dropout(0.5), nn.Linear(1, 1, bias=False)), adam
        )

    torch.manual_seed(0)
    model = dropping()
    weights = model.weights()
    found = model.forward(NOW, "key")["DATA"]
    kept = bits(model.backward("key", NOW, UPSTREAM, not_called))
    other = dropping()
    assert kept == bits(other.backward("key", NOW, UPSTREAM, lambda: weights))
    changed = ForwardPass(NOW.inputs, NOW.seed + 1, "v")
    assert kept != bits(other.backward("key", changed, UPSTREAM, lambda: weights))
    model.network.train()
    torch.manual_seed(NOW.seed)
    np.testing.assert_array_equal(found, model.network(torch.tensor(DATA)).detach().numpy())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(value: float) -> None:
    """It is refused before anything changes; the error names the parameters."""
    model = make()
    before = loaded(model)
    upstream = {"DATA": np.full_like(UPSTREAM["DATA"], value)}
    with pytest.raises(MessageError, match=r"norm (nan|inf), of (0\.|2\.bias).*: not learned"):
        gradient(model, NOW, upstream)
    assert bytes(model.dump()) == before


def test_a_stale_gradient_counts_less() -> None:
    """Each rate is divided by the root of 1 + staleness; a fresh gradient counts as before."""

    def moved(*staleness: int) -> list[float]:
        torch.manual_seed(0)
        network = nn.Linear(2, 1)
        model = TorchModel(network, lambda _: torch.optim.SGD(groups(network), lr=0.5))
        for each in staleness:
            before = model.weights()
            ones = Gradient([torch.ones(1, 2), torch.ones(1)], torch.tensor(3**0.5), {})
            after = tensors(step(model, ones, staleness=each))
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
    before = model.weights()
    kept = weights_of(learn(model, 2))
    assert all(torch.equal(before[name], kept[name]) for name in before)
    content = learn(model, 1)
    assert continued(summing, 2, 1) == content
    one = tensors(learn(TorchModel(dense(), adam, max_grad_norm=0.01)))
    for name, each in weights_of(content).items():
        assert not torch.equal(each, before[name])
        torch.testing.assert_close(each, one[name])


def test_fewer_gradients_to_add_up_count_at_once() -> None:
    """A run whose component was changed to `accumulate=2` when the sum had three gradients."""
    content = learn(TorchModel(dense(), adam, accumulate=4), 3)
    other = TorchModel(dense(), adam, accumulate=2)
    other.load(content)
    before, after = tensors(content), tensors(learn(other))
    assert not torch.equal(before["0.weight"], after["0.weight"])
    assert not any(name.startswith("accumulated/") for name in after)


def test_statistics_change_with_the_step_of_their_batch() -> None:
    """Not with the forward pass; on a model that has moved on, by its own forward pass."""
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    model = TorchModel(network, adam)
    loaded(model)
    model.forward(NOW, "key")
    first = gradient(model)
    mean = "0.running_mean"
    assert torch.equal(model.weights()[mean], torch.zeros(2))
    found = tensors(step(model, first))
    torch.testing.assert_close(found[mean], torch.tensor(DATA.mean(0) * 0.1))
    found = tensors(step(model, first, staleness=1))
    torch.testing.assert_close(found[mean], torch.tensor(DATA.mean(0) * 0.19))
    assert int(found["0.num_batches_tracked"]) == 2


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
    table = model.weights()["table.weight"].numpy()
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
    before = model.weights()["table.weight"]
    upstream = {"BEST": np.zeros(2, "<i8")}
    of_parameters, of_inputs = model.backward("no graph", NAMED, upstream, lambda: None)
    assert of_inputs["SCALE"].tolist() == [[0], [0]]
    assert torch.equal(tensors(step(model, of_parameters, NAMED))["table.weight"], before)


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
    weight = model.weights()["weight"].numpy()
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
    content = step(model, of_parameters, made)
    assert {each.dtype for each in weights_of(content).values()} == {torch.bfloat16}
    other = half()
    other.load(content)
    assert bytes(other.dump()) == content


def test_lazy_modules_get_their_shapes_from_an_example() -> None:
    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1))

    model = TorchModel(lazy(), adam, example=DATA)
    assert model.weights()["0.weight"].shape == (3, 2)
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
    """It has neither buffers nor frozen parameters nor a scheduler; its optimizer's tensors are
    called NAME.KEY.
    """

    def falling(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))

    def make() -> TorchModel:
        network = nn.Sequential(nn.BatchNorm1d(2), dense())
        network[1][2].requires_grad_(False)
        return TorchModel(network, adam, scheduler=falling)

    model = make()
    content = learn(model, 3)
    weights, state = weights_of(content), {}
    for name, each in tensors(content).items():
        if name.startswith("optimizer/"):
            state[name.removeprefix("optimizer/").replace("/", ".")] = each
    assert "1.0.weight.exp_avg" in state
    untrained = {n for n in weights if "running" in n or "num_batches" in n or "1.2." in n}
    parameters = {name: each for name, each in weights.items() if name not in untrained}
    other = make()
    other.load(merged(save(parameters), save(state), 3))
    found = tensors(bytes(other.dump()))
    for name, each in tensors(content).items():
        expected = make().weights()[name] if name in untrained else each
        assert torch.equal(found[name], expected), name
    other.load(content)
    assert learn(other) == learn(model)
    again = make()
    again.load(merged(save(parameters), save(state), 3))
    assert tensors(learn(again))["1.0.weight"].shape == (8, 2)
    about = read(bytes(again.dump()))[1]["optimizer"]
    assert about["groups"][0]["lr"] == pytest.approx(0.01 / 5)


def test_an_update_is_repeated_from_its_record() -> None:
    """To the last bit: parameters that a batch did not use, buffers, and the clipped gradient."""

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.unused, self.used = nn.BatchNorm1d(2), nn.Linear(2, 2), dense()
            self.last = nn.Linear(1, 1).bfloat16()

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.used(self.norm(inputs))
            return self.last(found.bfloat16()).float()

    def make() -> TorchModel:
        torch.manual_seed(0)
        return TorchModel(Parts(), adam, max_grad_norm=0.1)

    model, other = make(), make()
    for _ in range(3):
        update = model.prepare(gradient(model), NOW, moved_on=False, staleness=2)
        record = unpack(pack(model.encode(update)))
        model.apply(update)
        other.apply(other.decode(record))
    assert bytes(model.dump()) == bytes(other.dump())


def test_the_record_of_another_network_is_refused() -> None:
    """The error names the parameter that the record does not fit."""
    large, small = TorchModel(dense(), adam), TorchModel(nn.Linear(2, 1), adam)
    updates = [
        each.prepare(gradient(each), NOW, moved_on=False, staleness=0) for each in (large, small)
    ]
    records = [each.encode(update) for each, update in zip((large, small), updates, strict=True)]
    with pytest.raises(ModelError, match=r"does not fit 0\.weight"):
        large.decode(records[1])
    with pytest.raises(ModelError, match="120 bytes too many"):
        small.decode(records[0])


def test_its_weights_are_replaced_by_message() -> None:
    """Buffers among them; what the optimizer remembers stays."""
    room, answers = Room("evolve"), Room("weights")
    system = System(
        "net",
        (
            Stream(room, MessageType.COMMAND, weight_messages.ASKED, ("net",)),
            Stream(answers, MessageType.CUSTOM, weight_messages.ANSWERED),
        ),
        ("net",),
    )

    def model(_: RuntimeSettings) -> TorchModel:
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        return TorchModel(network, lambda parameters: torch.optim.Adam(parameters, lr=0.1))

    handlers = weight_messages.handlers([room], answers)
    net = Component("net", system, RuntimeSettings, handlers, model=model)
    got = call(net, Message.open(room, type=MessageType.COMMAND, CMD="GET"))
    fields = got.replies[0].fields
    arrays = safetensors.numpy.load(fields["WEIGHTS"].tobytes())
    assert arrays["1.running_var"].tolist() == [1.0, 1.0]
    other = {name: np.asarray(each + 1) for name, each in arrays.items()}
    content = np.frombuffer(safetensors.numpy.save(other), "|u1")
    given = {"CMD": "SET", "VERSION": fields["VERSION"], "WEIGHTS": content}
    done = call(net, Message.open(room, type=MessageType.COMMAND, **given), state=got.state)
    assert done.state is not None
    stored = safetensors.numpy.load(done.state.content)
    assert {name: stored[name].tolist() for name in other} == {
        name: each.tolist() for name, each in other.items()
    }
