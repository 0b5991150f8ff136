"""Joins as a component's author declares and calls them, without Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    ModelStatus,
    Parts,
    Room,
    RuntimeSettings,
    Stream,
    System,
    backprop,
    join,
    on,
)
from roomgrad.errors import ContractError, SchemaError
from roomgrad.gather import add_up
from roomgrad.schema import Declaration, check_gradients
from roomgrad.testing import call

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
LEFT, RIGHT, BOTH, OUT = Room("left"), Room("right"), Room("both"), Room("out")
ROWS = {"DATA": Array("<f4", ("batch", 2))}
FIELDS = {"DATA": Array("<f4", ("n",))}
CONTRACT = System(
    "joins",
    (
        *(Stream(room, FORWARD, FIELDS, ("joiner",)) for room in (LEFT, RIGHT)),
        *(Stream(room, GRADIENT, FIELDS) for room in (LEFT, RIGHT)),
        Stream(BOTH, FORWARD, ROWS, ("joiner",)),
        Stream(BOTH, GRADIENT, ROWS, ("one", "two")),
        Stream(OUT, FORWARD, ROWS),
        Stream(OUT, GRADIENT, ROWS, ("joiner",)),
    ),
    ("joiner", "one", "two"),
)


def numbers(*values: float) -> NDArray[Any]:
    return np.array(values, "<f4")


def joiner(*handlers: Any, **options: Any) -> Component:
    return Component("joiner", CONTRACT, RuntimeSettings, handlers, **options)


def test_parts_of_several_rooms_have_the_names_of_the_rooms() -> None:
    """Each gets its gradient in its own room, under its own ID."""

    @join((LEFT, RIGHT), FORWARD, replies=[(LEFT, GRADIENT), (RIGHT, GRADIENT)])
    def both(parts: Parts, context: Context) -> list[Message]:
        return parts.gradients({"left": parts["right"].array, "right": parts["left"].array})

    first = Message.open(RIGHT, numbers(2, 3))
    second = replace(Message.open(LEFT, numbers(1)), root_id=first.root_id, sent_by="me")
    begun = call(joiner(both), first)
    assert begun.replies == []
    assert not begun.skipped
    ended = call(joiner(both), second, memory=begun.memory)
    assert ended.memory == {}
    assert [(each.room, each.id, each.to) for each in ended.replies] == [
        ("left", second.id, "me"),
        ("right", first.id, ""),
    ]
    assert [each.array.tolist() for each in ended.replies] == [[2, 3], [1]]


def test_a_part_keeps_everything_while_it_waits() -> None:
    """Fields, arrays, seed and MODEL_STATUS."""
    contract = System(
        "free", (Stream(LEFT, FORWARD, {}, ("joiner",)), Stream(RIGHT, FORWARD, {}, ("joiner",))),
        ("joiner",),
    )  # fmt: skip
    seen: dict[str, Message] = {}

    @join((LEFT, RIGHT), FORWARD)
    def both(parts: Parts, context: Context) -> None:
        seen.update(parts)

    component = Component("joiner", contract, RuntimeSettings, [both])
    first = Message.open(
        LEFT, None, status=ModelStatus.VALIDATE, seed=2**62, NAME="a", LIST=[1, {"b": None}]
    )
    second = replace(Message.open(RIGHT, None), root_id=first.root_id)
    begun = call(component, first)
    assert begun.memory
    call(component, second, memory=begun.memory)
    found = seen["left"]
    assert (found.id, found.root_id, found.seed) == (first.id, first.root_id, 2**62)
    assert found.status is ModelStatus.VALIDATE
    assert found.fields == {"NAME": "a", "LIST": [1, {"b": None}]}


def test_a_network_of_several_parts_learns_and_answers_each() -> None:
    """An integer part, or one without a use, gets an empty gradient."""
    from torch import Tensor, nn, optim

    from roomgrad.learning.model import TorchModel

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, one: Tensor, two: Tensor) -> Tensor:
            return self.layer(one) * two

    def make(_: Any) -> TorchModel:
        return TorchModel(Two(), lambda parameters: optim.SGD(parameters, 0.1))

    component = joiner(*backprop.joined(BOTH, OUT, ("one", "two")), model=make)
    first = replace(Message.open(BOTH, np.ones((3, 2), "<f4")), sent_by="two")
    second = replace(Message.open(BOTH, np.ones((3, 2), "<f4")), root_id=first.root_id)
    begun = call(component, first)
    joined = call(component, replace(second, sent_by="one"), memory=begun.memory, state=begun.state)
    [output] = joined.replies
    upstream = output.reply(OUT, np.ones((3, 2), "<f4"), type=GRADIENT, id=output.id)
    learned = call(component, upstream, memory=joined.memory, state=joined.state)
    assert learned.stepped
    assert learned.memory == {}
    assert [(each.to, each.id) for each in learned.replies] == [
        ("one", second.id),
        ("two", first.id),
    ]
    assert all(each.array.shape == (3, 2) for each in learned.replies)
    empty = call(component, replace(upstream, data=None), memory=joined.memory, state=joined.state)
    assert [each.data for each in empty.replies] == [None, None]


def test_each_id_draws_random_numbers_of_its_own() -> None:
    """The same ones whichever part comes last, and other ones for the next step of the root."""
    from torch import nn, optim

    from roomgrad.learning.model import TorchModel

    def make(_: Any) -> TorchModel:
        network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        return TorchModel(network, lambda parameters: optim.SGD(parameters, 0.1))

    @join(BOTH, FORWARD, replies=[(OUT, FORWARD)], parts=("one", "two"), by_id=True)
    def both(parts: Parts, context: Context) -> Message:
        outputs = context.model.forward({"DATA": np.ones((64, 2), "<f4")}, key="key")
        return parts.reply(OUT, outputs["DATA"])

    def outputs(id_: str, *senders: str) -> list[list[float]]:
        component = joiner(both, model=make)
        part = Message(BOTH.name, FORWARD, id_, "root", np.ones((1, 2), "<f4"))
        begun = call(component, replace(part, sent_by=senders[0]))
        last = replace(part, sent_by=senders[1])
        [reply] = call(component, last, memory=begun.memory, state=begun.state).replies
        found: list[list[float]] = reply.array.tolist()
        return found

    first = outputs("first", "one", "two")
    assert outputs("first", "two", "one") == first
    dropped = [[value == 0 for value in row] for row in first]
    assert [[v == 0 for v in row] for row in outputs("second", "one", "two")] != dropped


def test_a_gradient_for_another_part_is_skipped() -> None:
    """TO counts if it names another reader of the room; clients of swergio name others."""

    @on(BOTH, GRADIENT)
    def gradient(message: Message, context: Context) -> None:
        context.counters.add("seen")

    one = Component("one", CONTRACT, RuntimeSettings, [gradient])
    message = Message.open(BOTH, np.ones((1, 2), "<f4"), type=GRADIENT)
    assert call(one, replace(message, to="two")).skipped
    for name in ("one", "", "joiner", "client"):
        assert not call(one, replace(message, to=name)).skipped


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parts": ["one"]}, "at least two different parts"),
        ({"parts": ["one", "one"]}, "at least two different parts"),
        ({"parts": ["one", "two"], "least": 1}, "`least` from 1 to 2 with `wait_s` above 0"),
        ({"parts": ["one", "two"], "least": 3, "wait_s": 1.0}, "`least` from 1 to 2"),
        ({"parts": ["one", "two"], "wait_s": 1.0}, "or neither, got 2 with 1"),
        (
            {"parts": ["one", "two"], "least": 1, "wait_s": 9.0, "expire_s": 9.0},
            "`expire_s` above 9",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        join(BOTH, FORWARD, **options)
    with pytest.raises(ContractError, match="have the rooms' names"):
        join((LEFT, RIGHT), FORWARD, parts=["one", "two"])


def test_a_join_that_can_never_be_complete_is_refused() -> None:
    @join(BOTH, FORWARD, parts=["one", "three"])
    def unknown(parts: Parts, context: Context) -> None: ...

    @join(BOTH, FORWARD, parts=["one", "two"])
    def known(parts: Parts, context: Context) -> None: ...

    @on(BOTH, FORWARD)
    def other(message: Message, context: Context) -> None: ...

    with pytest.raises(ContractError, match="joins parts of three, which system joins does not"):
        joiner(unknown)
    with pytest.raises(ContractError, match="expected no other handler of it"):
        joiner(known, other)
    with pytest.raises(ContractError, match="a component that shares its messages"):
        joiner(known, everyone=True)
    silent = Component("one", CONTRACT, RuntimeSettings, [])
    declared = {"joiner": Declaration.of(joiner(known)), "one": Declaration.of(silent)}
    assert Declaration.from_json(declared["joiner"].to_json()) == declared["joiner"]
    with pytest.raises(ContractError, match="but one does not declare to send any there"):
        check_gradients(CONTRACT, declared)
    sends = Component("one", CONTRACT, RuntimeSettings, [], sends=[(BOTH, FORWARD)])
    check_gradients(CONTRACT, {**declared, "one": Declaration.of(sends)})


def test_gradients_are_added_by_name_in_order() -> None:
    """Floats in their own precision; one without a name counts as zero there."""
    big, small = numbers(1e8), numbers(1.0)
    messages = [
        Message("r", GRADIENT, "i", "r", big, fields={"A": small, "SAID": "b"}),
        Message("r", GRADIENT, "i", "r", -big),
        Message("r", GRADIENT, "i", "r", small, fields={"A": small, "SAID": "c", "TOO": "d"}),
    ]
    found = add_up(messages)
    assert found.array.tolist() == [1.0]
    assert add_up([messages[0], messages[2], messages[1]]).array.tolist() == [0.0]
    assert found.fields == {"A": numbers(2.0), "SAID": "b", "TOO": "d"}
    with pytest.raises(SchemaError, match=r"sent a gradient <f4 \(2,\) of i, and others <f4 \(1,"):
        add_up([messages[0], Message("r", GRADIENT, "i", "r", numbers(1, 2))])
