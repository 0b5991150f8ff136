"""The three components on roomgrad: `python -m tests.chaos.components learner --run NAME ...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from roomgrad import Component, Context, Message, RuntimeSettings, backprop, main, on
from roomgrad.settings import OfRun, settings
from tests.chaos.contract import (
    CHAOS,
    DEED,
    FORWARD,
    GRADIENT,
    LABELLER,
    LEARNER,
    OPENER,
    WIDTH,
    WORK,
)
from tests.chaos.slope import Slope

LARGE_EVERY, LARGE_ROWS = 50, 1000  # some messages are of 16 kB


@settings
class OpenerSettings(RuntimeSettings):
    """How many numbers go out."""

    window: Annotated[int, Field(ge=1), OfRun] = 8
    """How many are under way at once."""


def opened(number: int, context: Context) -> Message | None:
    """The message of a number, or None after the last, which the table `goal` names in the end."""
    goal = context.table("goal").get("numbers")
    if goal is not None and number >= goal["numbers"]:
        return None
    rows = LARGE_ROWS if number % LARGE_EVERY == 0 else 2
    data = np.random.default_rng(number).standard_normal((rows, WIDTH)).astype("<f4")
    message = Message.open(WORK, data, NUMBER=np.array(number, "<i8"))
    context.memory.put(message.root_id, ROOT_ID=message.root_id, number=number)
    return message


def start(context: Context) -> Iterator[Message]:
    """The first numbers of a run."""
    for number in range(context.settings.window):
        if message := opened(number, context):
            yield message


@on(WORK, GRADIENT, replies=[(WORK, FORWARD)])
def generation(message: Message, context: Context) -> Message | None:
    """A number is home: a generation is counted, and the next number goes out."""
    number = context.memory.pop(message.root_id)["number"]
    context.append("generations", number=number)
    context.counters.add("finished")
    return opened(number + context.settings.window, context)


@on(WORK, FORWARD, replies=[(DEED, FORWARD)])
def forward(message: Message, context: Context) -> Message:
    """`(batch, WIDTH)` through the model; memory keeps inputs and weights for the gradient."""
    return backprop.forward(message, context, DEED, NUMBER=message.fields["NUMBER"])


@on(DEED, GRADIENT, replies=[(WORK, GRADIENT)])
def learn(message: Message, context: Context) -> Message:
    """One optimizer step."""
    reply = backprop.learn(message, context, WORK)
    reply.fields = {"NUMBER": message.fields["NUMBER"]}
    context.append("steps", number=int(message.fields["NUMBER"]))
    return reply


@on(DEED, FORWARD, replies=[(DEED, GRADIENT)])
def label(message: Message, context: Context) -> Message:
    """A label is written down for good; the gradient pulls the outputs to zero."""
    number = message.fields["NUMBER"]
    context.append("labels", number=int(number))
    return message.reply(DEED, message.array, type=GRADIENT, id=message.id, NUMBER=number)


PROGRAMS = {
    OPENER: Component(OPENER, CHAOS, OpenerSettings, [generation], on_start=start),
    LEARNER: Component(LEARNER, CHAOS, RuntimeSettings, [forward, learn], lambda _: Slope()),
    LABELLER: Component(LABELLER, CHAOS, RuntimeSettings, [label]),
}

if __name__ == "__main__":
    main(PROGRAMS[sys.argv.pop(1)])
