"""The components that are measured: `... .components {trainer,learner,trebuchet} --run NAME ...`.

`trebuchet` is the trainer of the trebuchet, which tells when its steps end, as `trainer` does.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

from pydantic import Field

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
    backprop,
    main,
    on,
)
from roomgrad.component import Handler
from roomgrad.errors import StrayMessage
from roomgrad.models import Trainable
from roomgrad.settings import OfRun, settings
from tests.benchmarks.model_size.task import RATE, batch, loss_gradient
from tests.benchmarks.model_size.ticks import Clock

TRAINER, LEARNER = "trainer", "learner"
INPUT, OUTPUT = Room("input"), Room("output")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
PAIRS = {"DATA": Array("<f4", ("batch", 2))}
SYSTEM = System(
    "model-size",
    (
        Stream(INPUT, FORWARD, PAIRS, (LEARNER,)),
        Stream(OUTPUT, FORWARD, PAIRS, (TRAINER,)),
        Stream(OUTPUT, GRADIENT, PAIRS, (LEARNER,)),
        Stream(INPUT, GRADIENT, PAIRS, (TRAINER,)),
    ),
    (TRAINER, LEARNER),
)


@settings
class LearnerSettings(RuntimeSettings):
    """How large the network is."""

    widening: Annotated[int, Field(ge=1), OfRun] = 22
    """By how much the hidden layers of the trebuchet's network are widened."""


def opened(number: int, context: Context) -> Message:
    """Open a batch."""
    inputs = batch(number)
    message = Message.open(INPUT, inputs)
    context.memory.put(message.root_id, ROOT_ID=message.root_id, number=number, inputs=inputs)
    return message


@on(OUTPUT, FORWARD, replies=[(OUTPUT, GRADIENT)])
def loss(message: Message, context: Context) -> Message:
    """Answer outputs with the gradient of the loss."""
    asked = context.memory.get(message.root_id)
    if asked is None:
        raise StrayMessage(f"no inputs for root {message.root_id}: unknown, or answered before")
    gradient = loss_gradient(message.array, asked["inputs"])
    return message.reply(OUTPUT, gradient, type=GRADIENT, id=message.id)


@on(INPUT, GRADIENT, replies=[(INPUT, FORWARD)])
def home(message: Message, context: Context) -> Message:
    """Finish a step, and open the next batch."""
    return opened(context.memory.pop(message.root_id)["number"] + 1, context)


def make_model(asked: LearnerSettings) -> Trainable:
    """Return the widened network and Adam."""
    import torch

    from roomgrad.learning import TorchModel, fix_threads
    from tests.benchmarks.model_size.network import network

    fix_threads(asked.threads)
    return TorchModel(
        network(asked.widening),
        lambda parameters: torch.optim.Adam(parameters, lr=RATE, fused=True),
    )


def timed(handler: Handler) -> Handler:
    """Return a handler that tells when it is called."""
    clock = Clock()

    def call(message: Message, context: Context) -> object:
        clock.tick()
        return handler.function(message, context)

    return dataclasses.replace(handler, function=call)


def trainer() -> Component:
    """Return the trainer of the loss that costs nothing."""
    return Component(
        TRAINER,
        SYSTEM,
        RuntimeSettings,
        [loss, timed(home)],
        on_start=lambda context: opened(0, context),
    )


def trebuchet() -> Component:
    """Return the trainer of the trebuchet."""
    from roomgrad_trebuchet.trainer import handlers

    timed_handlers = [handlers.backward, timed(handlers.next_batch)]
    return dataclasses.replace(handlers.component, handlers=timed_handlers)


def learner() -> Component:
    """Return the component that learns."""
    return Component(LEARNER, SYSTEM, LearnerSettings, backprop.handlers(INPUT, OUTPUT), make_model)


if __name__ == "__main__":
    main({"trainer": trainer, "trebuchet": trebuchet, "learner": learner}[sys.argv.pop(1)]())
