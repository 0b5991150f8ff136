"""The control model's handlers, called without Redis."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from roomgrad import Message, ModelStatus
from roomgrad.errors import MessageError, SchemaError, StrayMessage
from roomgrad.models import ForwardPass
from roomgrad.testing import Called, call
from roomgrad_trebuchet.contract import GRADIENT, INPUT, MODEL
from roomgrad_trebuchet.controlmodel.handlers import component
from roomgrad_trebuchet.controlmodel.model import cosine
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings

SETTINGS = ControlModelSettings(threads=1, train_steps=100)
DATA = np.array([[1.0, 40.0], [-3.0, 90.0], [0.0, 60.0]], "<f4")
UPSTREAM = np.array([[0.1, -2.0, 1.0], [0.0, 0.5, -1.0], [0.3, 1.0, 1.0]], "<f4")


def forward(data: np.ndarray = DATA, **options: object) -> tuple[Message, Called]:
    message = Message.open(INPUT, data)
    return message, call(component, message, settings=SETTINGS, **options)  # type: ignore[arg-type]


def backward(called: Called, **options: object) -> Called:
    reply = called.replies[0]
    message = reply.reply(MODEL, UPSTREAM, type=GRADIENT, id=reply.id)
    keep: dict[str, object] = {"memory": called.memory, "state": called.state}
    return call(component, message, settings=SETTINGS, **{**keep, **options})  # type: ignore[arg-type]


def outputs(data: np.ndarray, state: bytes) -> np.ndarray:
    model = component.make_model(SETTINGS)
    model.load(state)
    return model.forward(ForwardPass({"DATA": data}, 0, "v"), None)["DATA"]


def test_an_aim_is_the_wind_and_two_logits() -> None:
    """The wind passes through; what is needed for the gradient stays in memory."""
    message, called = forward()
    [reply] = called.replies
    assert (reply.room, reply.type) == ("model", "DATA/FORWARD")
    assert reply.array.shape == (3, 3)
    np.testing.assert_array_equal(reply.array[:, 0], DATA[:, 0])
    record = called.memory[reply.id]
    assert record["ROOT_ID"] == message.root_id
    assert record["answers"] == message.id
    assert called.state is not None
    assert record["weights"] == called.state.version
    np.testing.assert_array_equal(record["data"], DATA)
    assert not called.stepped


def test_a_gradient_is_learned_from_once() -> None:
    """One step, memory empty, the input gradient goes on under the forward's ID."""
    message, called = forward()
    learned = backward(called)
    [reply] = learned.replies
    assert (reply.room, reply.type, reply.id) == ("input", "DATA/GRADIENT", message.id)
    assert learned.stepped
    assert learned.memory == {}
    assert learned.state is not None
    assert called.state is not None
    assert learned.state.step == 1
    assert learned.state.content != called.state.content
    with pytest.raises(StrayMessage):
        backward(called, memory={})


def test_the_input_gradient_is_that_of_the_forwards_weights() -> None:
    """By finite differences at the weights that made the forward, never after the step."""
    _, called = forward()
    assert called.state is not None
    found = backward(called).replies[0].array
    for row, column in np.ndindex(*DATA.shape):
        step = 0.05
        up, down = DATA.copy(), DATA.copy()
        up[row, column] += step
        down[row, column] -= step
        difference = outputs(up, called.state.content) - outputs(down, called.state.content)
        expected = (difference.astype("f8") * UPSTREAM).sum() / (2 * step)
        assert found[row, column] == pytest.approx(expected, rel=5e-3, abs=1e-3)


def test_a_gradient_for_older_weights_is_computed_at_those() -> None:
    """The model moved on meanwhile: both gradients are those of the kept weights."""
    _, called = forward()
    assert called.state is not None
    fresh = backward(called)
    assert fresh.state is not None
    later = backward(called, state=fresh.state, kept={called.state.version: called.state.content})
    np.testing.assert_array_equal(later.replies[0].array, fresh.replies[0].array)
    assert later.state is not None
    assert later.state.step == 2
    with pytest.raises(MessageError, match="are no longer stored"):
        backward(called, state=fresh.state)


def test_validation_leaves_no_memory_and_no_step() -> None:
    """It is answered, that is all."""
    question = Message.open(INPUT, DATA, status=ModelStatus.VALIDATE, FRAMES=np.int64(5))
    called = call(component, question, settings=SETTINGS)
    [reply] = called.replies
    np.testing.assert_array_equal(reply.array, forward()[1].replies[0].array)
    assert reply.status == ModelStatus.VALIDATE
    assert int(reply.fields["FRAMES"]) == 5
    assert called.memory == {}
    assert not called.stepped


def test_a_gradient_of_another_shape_is_refused() -> None:
    """As many rows as the forward had."""
    _, called = forward()
    reply = called.replies[0]
    message = reply.reply(MODEL, UPSTREAM[:2], type=GRADIENT, id=reply.id)
    with pytest.raises(SchemaError, match=r"expected \(3, 3\).*got \(2, 3\)"):
        call(component, message, settings=SETTINGS, memory=called.memory, state=called.state)


@pytest.mark.parametrize("preset", ["learn", "original"])
def test_a_gradient_that_is_not_finite_is_not_learned(preset: str) -> None:
    """Numbers so large that the weights would become NaN condemn their message, not the model."""
    settings = ControlModelSettings(threads=1, preset=preset)  # type: ignore[arg-type]
    called = call(component, Message.open(INPUT, DATA), settings=settings)
    reply = called.replies[0]
    message = reply.reply(MODEL, np.full((3, 3), 3e38, "<f4"), type=GRADIENT, id=reply.id)
    with pytest.raises(MessageError, match=r"norm|finite"):
        call(component, message, settings=settings, memory=called.memory, state=called.state)


def test_the_initial_weights_are_a_function_of_the_seed() -> None:
    """Whichever replica comes first writes the same."""
    first, again = (bytes(component.make_model(SETTINGS).dump()) for _ in range(2))
    assert first == again
    other = ControlModelSettings(seed=1)
    assert bytes(component.make_model(other).dump()) != first


def test_the_original_preset_is_the_originals_network() -> None:
    """2-16-64-16-2 sigmoid, raw inputs, Adam 1e-3."""
    settings = ControlModelSettings(preset="original", threads=1)
    message = Message.open(INPUT, DATA)
    called = call(component, message, settings=settings)
    assert called.replies[0].array.shape == (3, 3)
    model = component.make_model(settings)
    shapes = [tuple(p.shape) for p in model.network.parameters()]
    assert shapes == [(16, 2), (16,), (64, 16), (64,), (16, 64), (16,), (2, 16), (2,)]
    assert float(model.network.center[1]) == 0.0


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    """After a linear warm-up, to nothing."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-2)
    [share] = cosine(optimizer, 100, 20).lr_lambdas
    rates = [1e-2 * share(step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-2 / 20)
    assert max(rates) == pytest.approx(1e-2)
    assert rates[60] == pytest.approx(5e-3)
    assert rates[100] == pytest.approx(0)
    assert all(math.isfinite(rate) for rate in rates)
