"""A system that branches: three components answer what `encoder` sends by gradients, one listens.

Also a program that runs one of its components, which kills itself at DIE_AT:
`DIE_AT="send 2" python -m tests.integration.graphs.branch encoder --run NAME ...`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from roomgrad import (
    Array,
    Component,
    Context,
    Handler,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    backprop,
    main,
    on,
)
from roomgrad.models import ForwardPass
from tests.integration.echo import die_at
from tests.integration.model.learner import BATCH, Squares

Vector = NDArray[np.float32]
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ENTER, HIDDEN = Room("enter"), Room("hidden")
NUMBERS = {"DATA": Array("<f4", (BATCH,))}

ASKED = {
    "head": lambda x: x / np.float32(3),
    "critic": lambda x: np.sin(x) * np.float32(1e-3),
    "penalty": lambda x: x * x * np.float32(0.1),
}
"""The gradients of those that answer, in the order in which they are added."""

BRANCH = System(
    "branch",
    (
        Stream(ENTER, FORWARD, NUMBERS, ("encoder",)),
        Stream(ENTER, GRADIENT, NUMBERS),
        Stream(HIDDEN, FORWARD, NUMBERS, (*ASKED, "logger")),
        Stream(HIDDEN, GRADIENT, NUMBERS, ("encoder",), senders=tuple(ASKED)),
    ),
    ("encoder", *ASKED, "logger"),
)


def encoder() -> Component:
    handlers = backprop.handlers(ENTER, HIDDEN)
    return Component("encoder", BRANCH, RuntimeSettings, handlers, model=lambda _: Squares())


def answering(name: str, gradient: Callable[[Vector], Vector]) -> Component:
    """Return a component that answers by a gradient."""

    @on(HIDDEN, FORWARD, replies=[(HIDDEN, GRADIENT)])
    def answer(message: Message, context: Context) -> Message | None:
        if not message.wants_gradient:
            return None
        return message.reply(HIDDEN, gradient(message.array), type=GRADIENT, id=message.id)

    return Component(name, BRANCH, RuntimeSettings, [answer])


def heads() -> list[Component]:
    return [answering(*each) for each in ASKED.items()]


def logger() -> Component:
    """Return the component that listens and answers nothing."""

    @on(HIDDEN, FORWARD)
    def count(message: Message, context: Context) -> None:
        context.counters.add("heard")

    handlers: list[Handler] = [count]
    return Component("logger", BRANCH, RuntimeSettings, handlers)


def batch(number: int) -> Vector:
    return np.random.default_rng(number).standard_normal(BATCH).astype("<f4")


def one_process(batches: int) -> Squares:
    """Train in this process, batch by batch, without rooms."""
    model = Squares()
    for number in range(batches):
        made = ForwardPass({"DATA": batch(number)}, 0, "")
        y = model.forward(made, None)["DATA"]
        first, second, third = (gradient(y) for gradient in ASKED.values())
        found, _ = model.backward("", made, {"DATA": first + second + third}, lambda: None)
        model.apply(model.prepare(found, made, moved_on=False, staleness=0))
    return model


if __name__ == "__main__":
    die_at(os.environ.get("DIE_AT", ""))
    name = sys.argv.pop(1)
    main(next(each for each in [encoder(), *heads(), logger()] if each.name == name))
