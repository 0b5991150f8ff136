"""A component with several inputs and outputs, some of which have no gradient."""

from __future__ import annotations

from collections.abc import Mapping

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
    on,
)

IN, OUT = Room("in"), Room("out")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
X, SUM = Array("<f4", ("batch", "n")), Array("<f4", ("batch",))
WIDE, INTEGERS = Array("<f4", ("batch", "m")), Array("<i8", ("batch",))

MIX = System(
    "mix",
    (
        Stream(IN, FORWARD, {"X": X, "IDS": INTEGERS}, ("mixer",)),
        Stream(OUT, FORWARD, {"SUM": SUM, "WIDE": WIDE, "KIND": INTEGERS}),
        Stream(OUT, GRADIENT, {"SUM": SUM, "WIDE": WIDE}, ("mixer",)),
        Stream(IN, GRADIENT, {"X": X}),
    ),
    ("mixer",),
)


def mixed(x: np.ndarray, ids: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"SUM": 2 * x.sum(axis=1), "WIDE": np.concatenate([x, 3 * x], axis=1), "KIND": ids + 1}


def mixer(answers: bool = True) -> Component:
    """answers: whether it returns gradients, or empty ones."""

    @on(IN, FORWARD, replies=[(OUT, FORWARD)])
    def forward(message: Message, context: Context) -> Message:
        given = message.arrays()
        reply = message.reply(OUT, **mixed(given["X"], given["IDS"]))
        context.memory.put(reply.id, answers=message.id)
        return reply

    @on(OUT, GRADIENT, replies=[(IN, GRADIENT)])
    def backward(message: Message, context: Context) -> Message:
        asked = context.memory.pop(message.id)
        if not answers:
            return message.reply(IN, id=asked["answers"])
        upstream = message.arrays()
        half = upstream["WIDE"].shape[1] // 2
        found = 2 * upstream["SUM"][:, None] + upstream["WIDE"][:, :half]
        found = found + 3 * upstream["WIDE"][:, half:]
        return message.reply(IN, id=asked["answers"], X=found.astype("<f4"))

    return Component("mixer", MIX, RuntimeSettings, [forward, backward])
