"""The three components on roomgrad: `python -m tests.chaos.components learner --run NAME ...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from roomgrad import Component, Context, Message, RuntimeSettings, backprop, main, on
from roomgrad.models import ForwardPass, Trainable
from roomgrad.runtime.model import snapshotter
from roomgrad.settings import OfRun, settings
from roomgrad.snapshots import orphans, pieces
from tests.chaos.contract import (
    CHAOS,
    DEED,
    FORWARD,
    GRADIENT,
    LABELLER,
    LEARNER,
    OPENER,
    WORK,
    batch,
)
from tests.chaos.slope import Slope
from tests.death import Death, named_in


@settings
class OpenerSettings(RuntimeSettings):
    """How many numbers go out."""

    window: Annotated[int, Field(ge=1), OfRun] = 8
    """How many are under way at once."""


@settings
class LearnerSettings(RuntimeSettings):
    """What is learned, and how it comes to an end."""

    parameters: Annotated[int, Field(ge=0), OfRun] = 0
    """How many the network has; 0 for the slope."""

    deaths: str = ""
    """A folder in which a file names a point: the replica that comes there first kills itself."""

    piece_bytes: int = pieces.PIECE_BYTES
    """How large a piece of a snapshot is at most."""

    orphan_s: float = orphans.OLD_S
    """After how many seconds a snapshot may be deleted that no pointer names."""


def opened(number: int, context: Context) -> Message | None:
    """The message of a number, or None after the last, which the table `goal` names in the end."""
    goal = context.table("goal").get("numbers")
    if goal is not None and number >= goal["numbers"]:
        return None
    message = Message.open(WORK, batch(number), seed=number, NUMBER=np.array(number, "<i8"))
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
    asked = context.memory.pop(message.id)
    made, number = ForwardPass.of(asked), message.fields["NUMBER"]
    of_inputs = context.model.learn(message.id, made, {"DATA": message.array})
    context.append("steps", number=int(number), weights=made.version)
    reply = message.reply(WORK, id=asked["answers"])
    reply.fill(of_inputs, NUMBER=number)
    return reply


@on(DEED, FORWARD, replies=[(DEED, GRADIENT)])
def label(message: Message, context: Context) -> Message:
    """A label is written down for good; the gradient pulls the outputs to zero."""
    number = message.fields["NUMBER"]
    context.append("labels", number=int(number))
    return message.reply(DEED, message.array, type=GRADIENT, id=message.id, NUMBER=number)


def model(given: LearnerSettings) -> Trainable:
    """The slope, or a network of real size, which takes a second to start."""
    if not given.parameters:
        return Slope()
    from tests.chaos import network

    pieces.PIECE_BYTES = given.piece_bytes
    orphans.OLD_S = snapshotter.OLD_S = given.orphan_s
    made = network.model(given.parameters)
    death = Death(named_in(Path(given.deaths)))
    death.in_snapshots()
    death.before("apply", made, "apply")
    return made


PROGRAMS = {
    OPENER: Component(OPENER, CHAOS, OpenerSettings, [generation], on_start=start),
    LEARNER: Component(LEARNER, CHAOS, LearnerSettings, [forward, learn], model),
    LABELLER: Component(LABELLER, CHAOS, RuntimeSettings, [label]),
}

if __name__ == "__main__":
    main(PROGRAMS[sys.argv.pop(1)])
