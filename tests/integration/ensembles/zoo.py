"""A system with an ensemble: a teacher sends members the gradient of the sum of what they answer.

python -m tests.integration.ensembles.zoo --run NAME --redis-url URL --member 0,2
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from roomgrad import (
    Array,
    Component,
    Context,
    Ensemble,
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
    tensor_files,
    weight_messages,
)
from roomgrad.ensembles import index_of
from roomgrad.errors import ModelError
from roomgrad.settings import settings
from roomgrad.systems import Plugin, sized
from tests.integration.model.learner import BATCH, Squares

ALL, ACT, OUT, EVOLVE = Room("all"), Room("act"), Room("out"), Room("evolve")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
COMMAND, CUSTOM = MessageType.COMMAND, MessageType.CUSTOM
NUMBERS = {"DATA": Array("<f4", (BATCH,))}
TEACHER = "teacher"


def contract(members: int = 3) -> System:
    """Return the contract of an ensemble of this size."""
    models = Ensemble("model", members)
    return System(
        "zoo",
        (
            Stream(ALL, FORWARD, NUMBERS, models.names),
            *models.streams(Stream(ACT, FORWARD, NUMBERS)),
            *models.streams(Stream(OUT, FORWARD, NUMBERS, (TEACHER,))),
            *models.streams(Stream(OUT, GRADIENT, NUMBERS)),
            *models.streams(Stream(ACT, GRADIENT, NUMBERS, (TEACHER,))),
            Stream(EVOLVE, COMMAND, weight_messages.ASKED, models.names),
            *models.streams(Stream(EVOLVE, COMMAND, weight_messages.ASKED)),
            Stream(EVOLVE, CUSTOM, weight_messages.ANSWERED),
        ),
        (TEACHER, *models.names),
    )


ZOO = sized(contract)
MODELS = Ensemble("model", len(ZOO.components) - 1)


@settings
class ZooSettings(RuntimeSettings):
    """What a test changes."""

    wide: Annotated[int, Field(ge=-1)] = -1
    """The member whose model is another one."""


class Cell(Squares):
    """y = w w x in numpy, with weights that are drawn from the seed, as a safetensors file."""

    def __init__(self, seed: int, size: int) -> None:
        super().__init__(size)
        self.weight = np.random.default_rng(seed).normal(size=size).astype("<f4")

    def dump(self) -> memoryview:
        arrays = {"weight": self.weight, "optimizer/speed": self.speed}
        tensors = [(name, "F32", each.shape, each.nbytes) for name, each in arrays.items()]
        body = b"".join(each.tobytes() for each in arrays.values())
        return memoryview(bytearray(tensor_files.header(tensors) + body))

    def load(self, content: bytes | bytearray | memoryview) -> None:
        _, begin = tensor_files.entries(bytes(content))
        size = (len(content) - begin) // 8
        if size != len(self.weight):
            raise ModelError(f"a state of {size} weights, expected {len(self.weight)}")
        super().load(bytes(content)[begin:])


def member(name: str) -> Component:
    """Return a member; asked alone it learns, asked with all others it only answers."""
    act, out = MODELS.room(ACT, name), MODELS.room(OUT, name)

    @on(ALL, FORWARD, replies=[(out, FORWARD)])
    def answer(message: Message, context: Context) -> Message:
        return backprop.forward(message, context, out)

    def model(given: ZooSettings) -> Cell:
        return Cell(given.seed, 2 * BATCH if given.wide == index_of(name) else BATCH)

    handlers = [
        answer,
        *backprop.handlers(act, out),
        *weight_messages.handlers((EVOLVE, MODELS.room(EVOLVE, name)), EVOLVE),
    ]
    return Component(name, ZOO, ZooSettings, handlers, model=model)


def teacher() -> Component:
    """Return the component that gives every answer a gradient of ones, and counts what returns."""
    handlers: list[Handler] = []
    for name in MODELS.names:
        act, out = MODELS.room(ACT, name), MODELS.room(OUT, name)

        @on(out, FORWARD, replies=[(out, GRADIENT)], when=lambda message: message.learns)
        def loss(message: Message, context: Context) -> Message:
            ones = np.ones_like(message.array)
            return message.reply(message.room, ones, type=GRADIENT, id=message.id)

        @on(act, GRADIENT)
        def home(message: Message, context: Context) -> None:
            context.counters.add(message.room)

        handlers += [loss, home]
    return Component(TEACHER, ZOO, RuntimeSettings, handlers)


component = [member(name) for name in MODELS.names]

plugin = Plugin(
    "tests.integration.ensembles.zoo:contract",
    {
        TEACHER: "tests.integration.ensembles.teacher",
        "model": "tests.integration.ensembles.zoo",
    },
)

if __name__ == "__main__":
    main(component)
