"""A component of a system of its own: y = sum of w x^2 over each row; and ways to get it wrong.

Also a program: `python -m tests.integration.commands.squares BEHAVIOUR --run=...`.
"""

from __future__ import annotations

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
    Room,
    RuntimeSettings,
    Stream,
    System,
    main,
    on,
)
from roomgrad.messages import new_id

SIDES, AREA = Room("sides"), Room("area")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ROW, SUM = {"DATA": Array("<f4", ("batch", 3))}, {"DATA": Array("<f4", ("batch",))}
WEIGHTS = np.array([1.0, 2.0, 3.0], dtype="<f4")

SQUARES = System(
    "squares",
    (
        Stream(SIDES, FORWARD, ROW, ("squarer",), "three sides"),
        Stream(AREA, FORWARD, SUM, ("asker",), "the sum of their squares"),
        Stream(AREA, GRADIENT, SUM, ("squarer",)),
        Stream(SIDES, GRADIENT, ROW, ("asker",)),
    ),
    ("asker", "squarer"),
)

Gradient = Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], np.ndarray[Any, Any]]


def true(x: np.ndarray[Any, Any], up: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The vector-Jacobian product."""
    return (2 * WEIGHTS * x * up[:, None]).astype("<f4")


WRONG: dict[str, Gradient] = {
    "sign": lambda x, up: -true(x, up),
    "double": lambda x, up: 2 * true(x, up),
    "unweighted": lambda x, up: (2 * x * up[:, None]).astype("<f4"),
    "ones": lambda x, up: np.ones_like(x),
}


def squarer(behaviour: str = "") -> Component:
    """The component, which does one thing wrong if it is asked to."""

    @on(SIDES, FORWARD, replies=[(AREA, FORWARD)])
    def square(message: Message, context: Context) -> Message | None:
        if behaviour == "silent":
            return None
        if behaviour == "raises":
            raise RuntimeError("this squarer is broken")
        area = (message.array**2 @ WEIGHTS).astype("<f4")
        if behaviour == "noisy":
            area += np.random.default_rng().normal(size=area.shape).astype("<f4")
        if behaviour == "jumps":
            area = np.floor(area * 3)
        reply = message.reply(AREA, area, id=message.id if behaviour == "same id" else None)
        if behaviour == "other root":
            reply.root_id = new_id()
        if message.wants_gradient:
            context.memory.put(reply.id, answers=message.id, x=message.array)
        if not message.wants_gradient and behaviour == "trains":
            reply.status = type(message.status).TRAIN
        return reply

    @on(AREA, GRADIENT, replies=[(SIDES, GRADIENT)])
    def gradient(message: Message, context: Context) -> Message:
        if behaviour == "answers strangers":
            asked = context.memory.get(message.id) or {"answers": new_id(), "x": np.ones((4, 3))}
        elif behaviour == "keeps":
            asked = context.memory.get(message.id) or {}
        else:
            asked = context.memory.pop(message.id)
        product = WRONG.get(behaviour, true)(asked["x"], message.array)
        own = behaviour == "own id"
        return message.reply(SIDES, product.astype("<f4"), id=new_id() if own else asked["answers"])

    return Component("squarer", SQUARES, RuntimeSettings, [square, gradient])


if __name__ == "__main__":
    behaviour = sys.argv.pop(1) if not sys.argv[1].startswith("--") else ""
    main(squarer(behaviour))
