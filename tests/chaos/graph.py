"""A graph that is broken on purpose: numbers branch to an ensemble, and a join gets its answers.

    opener - work - source - hidden - model.0, model.1, model.2 - deed - joiner - out - opener
                  \\ tagger ------------------------------------/

The joiner takes three of four parts after a moment. Gradients go back from it to the members, from
these to the source, which adds them up, and on to the opener; the part of the tagger is of
integers, and its gradient empty. Every fifth number is to validate: the joiner answers the opener.

SHARE is a whole number that names a number and a member. It tells which gradients were added.

python -m tests.chaos.graph PROGRAM --run NAME ...
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from roomgrad import (
    Array,
    Component,
    Context,
    Ensemble,
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
    main,
    on,
)
from roomgrad.ensembles import index_of
from tests.chaos.components import OpenerSettings
from tests.chaos.contract import DEED, WIDTH, WORK, Contract, batch
from tests.chaos.slope import Slope

OPENER, SOURCE, TAGGER, JOINER = "opener", "source", "tagger", "joiner"
MODELS = Ensemble("model", 3)
PARTS = (*MODELS.names, TAGGER)
LEAST, WAIT_S = 3, 0.3
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
HIDDEN, OUT = Room("hidden"), Room("out")
ROWS = {"DATA": Array("<f4", ("batch", WIDTH))}
PART = {
    "DATA": Array("<f4", ("batch", WIDTH), optional=True),
    "TAG": Array("<i8", (), optional=True),
    "SHARE": Array("<i8", (), optional=True),
}

GRAPH = Contract(
    System(
        "graph",
        (
            Stream(WORK, FORWARD, ROWS, (SOURCE, TAGGER)),
            Stream(HIDDEN, FORWARD, ROWS, MODELS.names),
            Stream(DEED, FORWARD, PART, (JOINER,)),
            Stream(DEED, GRADIENT, PART, PARTS),
            Stream(HIDDEN, GRADIENT, PART, (SOURCE,), senders=MODELS.names),
            Stream(WORK, GRADIENT, ROWS, (OPENER,)),
            Stream(OUT, FORWARD, {}, (OPENER,)),
        ),
        (OPENER, SOURCE, TAGGER, *MODELS.names, JOINER),
    ),
    "tests.chaos.graph",
    (OPENER, SOURCE, TAGGER, MODELS.name, JOINER),
    OPENER,
    ("joins", *PARTS, "sums", "generations"),
    {SOURCE: "sums", **{name: name for name in MODELS.names}},
    messages_per_number=14,
    trained=(*PARTS, "sums"),
    validate_every=5,
)


def share(number: int, name: str) -> int:
    """Return the SHARE of a member's gradient."""
    return number * 2 ** len(MODELS.names) + 2 ** index_of(name)


def opened(number: int, context: Context) -> Message | None:
    """Return the message of a number, or None after the last."""
    goal = context.table("goal").get("numbers")
    if goal is not None and number >= goal["numbers"]:
        return None
    status = ModelStatus.VALIDATE if GRAPH.validates(number) else ModelStatus.TRAIN
    message = Message.open(WORK, batch(number), seed=number, status=status)
    context.memory.hold(message.root_id, ROOT_ID=message.root_id, number=number)
    return message


def start(context: Context) -> Iterator[Message]:
    """Send the first numbers of a run."""
    for number in range(context.settings.window):
        if message := opened(number, context):
            yield message


def generation(message: Message, context: Context) -> Message | None:
    """Count a number that is home, and send the next one."""
    number = context.memory.pop(message.root_id)["number"]
    assert number == message.seed
    context.append("generations", number=number)
    context.counters.add("finished")
    return opened(number + context.settings.window, context)


def source() -> Component:
    """Return the owner of the branch."""
    forward, gradient = backprop.handlers(WORK, HIDDEN)

    @on(HIDDEN, GRADIENT, replies=[(WORK, GRADIENT)])
    def summed(message: Message, context: Context) -> Any:
        fields = dict(message.fields)
        context.append("sums", number=message.seed, share=int(fields.pop("SHARE")))
        message.fields = fields
        return gradient(message, context)

    return Component(SOURCE, GRAPH.system, RuntimeSettings, [forward, summed], lambda _: Slope())


def member(name: str) -> Component:
    """Return a member, which learns unless its gradient is empty."""

    @on(HIDDEN, FORWARD, replies=[(DEED, FORWARD)])
    def forward(message: Message, context: Context) -> Message:
        return backprop.forward(message, context, DEED)

    @on(DEED, GRADIENT, replies=[(HIDDEN, GRADIENT)])
    def gradient(message: Message, context: Context) -> Message:
        empty = message.data is None
        context.append(name, number=message.seed, empty=empty)
        own, message.fields = message.fields, {}
        reply = backprop.learn(message, context, HIDDEN)
        reply.fill({}, **({} if empty else {"SHARE": own["SHARE"]}))
        return reply

    handlers = [forward, gradient]
    return Component(name, GRAPH.system, RuntimeSettings, handlers, lambda _: Slope())


@on(WORK, FORWARD, replies=[(DEED, FORWARD)])
def tag(message: Message, context: Context) -> Message:
    """Send a part of integers."""
    part = message.reply(DEED, TAG=np.array(message.seed))
    context.memory.put(part.id)
    return part


@on(DEED, GRADIENT)
def tagged(message: Message, context: Context) -> None:
    """Take the gradient of a part of integers, which is empty."""
    context.memory.pop(message.id)
    context.append(TAGGER, number=message.seed, empty=message.data is None)


@join(
    DEED,
    FORWARD,
    replies=[(DEED, GRADIENT), (OUT, FORWARD)],
    parts=PARTS,
    least=LEAST,
    wait_s=WAIT_S,
)
def decide(parts: Parts, context: Context) -> list[Message]:
    """Pull the outputs of each member to zero, as far as they came in time."""
    first = next(iter(parts.values()))
    number = first.seed or 0
    context.append("joins", number=number, names=list(parts))
    if not first.wants_gradient:
        return [parts.reply(OUT)]
    found = parts.gradients({name: parts[name].array for name in parts if name != TAGGER})
    for gradient in found:
        if gradient.to != TAGGER:
            gradient.fill({}, SHARE=np.array(share(number, gradient.to)))
    return found


def components(program: str) -> list[Component]:
    """Return the components that a program serves."""
    system, given = GRAPH.system, RuntimeSettings
    if program == OPENER:
        rooms = ((WORK, GRADIENT), (OUT, FORWARD))
        home = [on(*each, replies=[(WORK, FORWARD)])(generation) for each in rooms]
        return [Component(OPENER, system, OpenerSettings, home, on_start=start)]
    if program == MODELS.name:
        return [member(name) for name in MODELS.names]
    if program == SOURCE:
        return [source()]
    return [Component(program, system, given, [tag, tagged] if program == TAGGER else [decide])]


if __name__ == "__main__":
    main(components(sys.argv.pop(1)))
