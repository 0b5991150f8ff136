"""A system that joins: `left` and `right` each have a part of a batch, `head` gets both.

Also a program that runs one of its components, which kills itself at DIE_AT.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Parts,
    Room,
    RuntimeSettings,
    Stream,
    System,
    backprop,
    join,
    main,
    on,
)
from roomgrad.errors import SchemaError
from roomgrad.models import ForwardPass
from tests.integration.echo import die_at
from tests.integration.graphs.branch import Vector, batch
from tests.integration.model.learner import BATCH, Squares

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ENTER, EMBEDDED, OUT = Room("enter"), Room("embedded"), Room("out")
NUMBERS = {"DATA": Array("<f4", (BATCH,))}
OWNERS = ("left", "right")

JOINED = System(
    "joined",
    (
        Stream(ENTER, FORWARD, NUMBERS, OWNERS),
        Stream(EMBEDDED, FORWARD, NUMBERS, ("head",)),
        Stream(EMBEDDED, GRADIENT, NUMBERS, OWNERS),
        Stream(OUT, FORWARD, NUMBERS),
        Stream(OUT, GRADIENT, NUMBERS, ("head",)),
    ),
    (*OWNERS, "head"),
)


def side(name: str, x: Vector) -> Vector:
    """Return the features of an owner, which the other does not see."""
    return x if name == "left" else np.cos(x)


def owner(name: str, **options: Any) -> Component:
    """Return an owner of features, with a model of its own."""

    @on(ENTER, FORWARD, replies=[(EMBEDDED, FORWARD)], **options)
    def forward(message: Message, context: Context) -> Message:
        message.data = side(name, message.array)
        return backprop.forward(message, context, EMBEDDED)

    @on(EMBEDDED, GRADIENT)
    def gradient(message: Message, context: Context) -> None:
        asked = context.memory.pop(message.id)
        context.counters.add("home" if message.data is not None else "empty")
        if upstream := message.arrays():
            context.model.learn(message.id, ForwardPass.of(asked), upstream)

    handlers = [forward, gradient]
    return Component(name, JOINED, RuntimeSettings, handlers, model=lambda _: Squares())


def loss(left: Vector, right: Vector) -> tuple[Vector, Vector, Vector]:
    """Return an output, and its gradients for both parts."""
    return left * right, right / np.float32(3), left * np.float32(0.1)


def head(**options: Any) -> Component:
    """Return the component that joins; it answers both parts at once."""

    @join(
        EMBEDDED, FORWARD, replies=[(OUT, FORWARD), (EMBEDDED, GRADIENT)], parts=OWNERS, **options
    )
    def forward(parts: Parts, context: Context) -> list[Message]:
        context.counters.add("joined")
        context.append("joined", names=list(parts))
        zeros = np.zeros(BATCH, "<f4")
        both = [parts[name].array if name in parts else zeros for name in OWNERS]
        if not both[0].any():
            raise SchemaError("only zeros")
        output, *gradients = loss(*both)
        replies = [parts.reply(OUT, output)]
        if replies[0].wants_gradient:
            replies += parts.gradients(dict(zip(OWNERS, gradients, strict=True)))
        return replies

    return Component("head", JOINED, RuntimeSettings, [forward], logs=["joined"])


def one_process(batches: int) -> dict[str, Squares]:
    """Train in this process, batch by batch, without rooms."""
    models = {name: Squares() for name in OWNERS}
    for number in range(batches):
        made = {name: ForwardPass({"DATA": side(name, batch(number))}, 0, "") for name in OWNERS}
        outputs = [models[name].forward(made[name], None)["DATA"] for name in OWNERS]
        for name, gradient in zip(OWNERS, loss(*outputs)[1:], strict=True):
            found, _ = models[name].backward("", made[name], {"DATA": gradient}, lambda: None)
            models[name].apply(models[name].prepare(found, made[name], moved_on=False, staleness=0))
    return models


COMPONENTS: dict[str, Callable[[], Component]] = {
    "head": head,
    "late head": lambda: head(least=1, wait_s=0.5),
    **{name: lambda name=name: owner(name) for name in OWNERS},
}

if __name__ == "__main__":
    die_at(os.environ.get("DIE_AT", ""))
    main(COMPONENTS[sys.argv.pop(1)]())
