"""What the SDK does for a component that learns: its two handlers, and how its model is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from roomgrad import (
    Array,
    Component,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    backprop,
)
from roomgrad.errors import ContractError
from roomgrad.learning import TorchModel
from roomgrad.testing import Called, call

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ENTER, LEAVE = Room("enter"), Room("leave")
ROWS = {"DATA": Array("<f4", ("batch", 2))}
NOTED = {**ROWS, "NOTE": Array("<i8", (), optional=True), "OTHER": Array("<i8", (), optional=True)}
SYSTEM = System(
    "wired",
    (
        Stream(ENTER, FORWARD, NOTED, ("net",)),
        Stream(LEAVE, FORWARD, NOTED),
        Stream(LEAVE, GRADIENT, ROWS, ("net",)),
        Stream(ENTER, GRADIENT, ROWS),
    ),
    ("net",),
)


def make_model(settings: RuntimeSettings) -> TorchModel:
    return TorchModel(nn.Linear(2, 2), lambda parameters: torch.optim.SGD(parameters, lr=0.1))


HANDLERS = backprop.handlers(ENTER, LEAVE, passed=["NOTE"])
NET = Component("net", SYSTEM, RuntimeSettings, HANDLERS, model=make_model)


def asked() -> tuple[Message, Called]:
    message = Message.open(ENTER, np.ones((3, 2), "<f4"), NOTE=np.int64(5), OTHER=np.int64(6))
    return message, call(NET, message)


def test_a_batch_goes_on_with_the_fields_that_are_passed() -> None:
    """And without all others."""
    _, called = asked()
    [reply] = called.replies
    assert (reply.room, reply.type, reply.array.shape) == ("leave", FORWARD.value, (3, 2))
    assert {name: int(each) for name, each in reply.fields.items()} == {"NOTE": 5}


def test_its_gradient_comes_home_after_one_step() -> None:
    """Under the ID of the batch."""
    message, called = asked()
    [reply] = called.replies
    upstream = reply.reply(LEAVE, np.ones((3, 2), "<f4"), type=GRADIENT, id=reply.id)
    learned = call(NET, upstream, memory=called.memory, state=called.state)
    [home] = learned.replies
    assert (home.room, home.type, home.id) == ("enter", GRADIENT.value, message.id)
    assert learned.stepped


def weights(component: Component, seed: int) -> Tensor:
    model = component.make_model(RuntimeSettings(seed=seed, threads=1))
    assert isinstance(model, TorchModel)
    return model.network.weight.detach().clone()


def test_the_initial_weights_are_those_of_the_seed() -> None:
    """As one process draws them, and torch's own numbers go on as if no model had been made."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (weights(NET, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    torch.manual_seed(1)
    assert torch.equal(one, nn.Linear(2, 2).weight)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_model_computes_on_the_threads_of_the_settings() -> None:
    """Without any help of the component."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        NET.make_model(RuntimeSettings(threads=0))
        assert torch.get_num_threads() == before + 1
        NET.make_model(RuntimeSettings(threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_component_without_a_model_makes_none() -> None:
    """And says so."""
    echo = Component("net", SYSTEM, RuntimeSettings, HANDLERS)
    with pytest.raises(ContractError, match="component net declares no model"):
        echo.make_model(RuntimeSettings())
