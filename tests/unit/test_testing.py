"""The tools for tests of components."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import roomgrad.testing
from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    on,
)
from roomgrad.errors import ContractError, SchemaError
from roomgrad.testing import call, call_start

CAVE, HILL = Room("cave"), Room("hill")
FORWARD = MessageType.FORWARD
NUMBERS = {"DATA": Array("<f4", ("n",))}
ECHO = System(
    "echo",
    (Stream(CAVE, FORWARD, NUMBERS, ("rock",)), Stream(HILL, FORWARD, NUMBERS)),
    ("rock",),
)


def rock(function: object) -> Component:
    handler = on(CAVE, FORWARD, replies=[(HILL, FORWARD)])(function)  # type: ignore[arg-type]
    return Component("rock", ECHO, RuntimeSettings, [handler])


def test_the_example_of_the_docstring_runs() -> None:
    """As it stands there."""
    assert doctest.testmod(roomgrad.testing).failed == 0


def test_a_call_checks_message_and_replies() -> None:
    """Against the contract, as the runtime does."""

    def wide(message: Message, context: Context) -> Message:
        return message.reply(HILL, message.array.astype("<f8"))

    def astray(message: Message, context: Context) -> Message:
        return message.reply(CAVE, message.array)

    good = Message.open(CAVE, np.zeros(2, "<f4"))
    with pytest.raises(SchemaError, match="expected dtype <f4, got <f8"):
        call(rock(wide), good)
    with pytest.raises(ContractError, match="replied DATA/FORWARD to cave"):
        call(rock(astray), good)
    with pytest.raises(SchemaError, match=r"expected shape \(n,\), got \(2, 2\)"):
        call(rock(wide), Message.open(CAVE, np.zeros((2, 2), "<f4")))


@pytest.mark.parametrize("size", [4, 17])
def test_a_handler_may_change_its_array_in_place(size: int) -> None:
    """It is the handler's own: another one of the same message gets it as it was sent."""

    def clip(message: Message, context: Context) -> Message:
        message.array[message.array > 1] = 1
        return message.reply(HILL, message.array)

    sent = Message.open(CAVE, np.full(size, 2, "<f4"))
    two = [on(CAVE, FORWARD, replies=[(HILL, FORWARD)])(clip) for _ in range(2)]
    called = call(Component("rock", ECHO, RuntimeSettings, two), sent)
    assert [reply.array.tolist() for reply in called.replies] == 2 * [size * [1]]
    assert sent.array.tolist() == size * [2]
    called.replies[0].array[0] = 5

    def double(message: Message, context: Context) -> Message:
        message.array[...] *= 2
        return message.reply(HILL, message.array)

    two = [on(CAVE, FORWARD, replies=[(HILL, FORWARD)])(double) for _ in range(2)]
    called = call(Component("rock", ECHO, RuntimeSettings, two), sent)
    assert [reply.array[0] for reply in called.replies] == [4, 4]


def test_memory_and_tables_go_from_call_to_call() -> None:
    """What one call leaves is what the next one finds."""

    def count(message: Message, context: Context) -> None:
        before = context.memory.get("count") or {"n": 0}
        context.memory.put("count", n=before["n"] + 1)
        context.table("seen").put(message.id, n=before["n"])
        context.counters.add("calls")

    component = rock(count)
    first = call(component, Message.open(CAVE, np.zeros(1, "<f4")))
    second = call(
        component,
        Message.open(CAVE, np.zeros(1, "<f4")),
        memory=first.memory,
        tables=first.tables,
    )
    assert second.memory["count"]["n"] == 2
    assert [record["n"] for record in second.tables["seen"].values()] == [0, 1]
    assert second.counters == {"calls": 1}


def test_a_component_that_does_not_speak_first_cannot_start() -> None:
    """The tool says so."""
    with pytest.raises(ContractError, match="rock declares no on_start"):
        call_start(rock(lambda message, context: None))
