"""A committee: an encoder branches to the members of an ensemble, and a chair joins their answers.

Each member gets the gradient of its own answer, and the encoder the sum of what they return.

Also a program that runs a component, or all members, and kills itself at DIE_AT.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from roomgrad import (
    Array,
    Component,
    Context,
    Ensemble,
    MessageType,
    Parts,
    Room,
    RuntimeSettings,
    Stream,
    System,
    backprop,
    join,
    main,
)
from roomgrad.models import ForwardPass
from tests.integration.echo import die_at
from tests.integration.ensembles.zoo import Cell
from tests.integration.graphs.branch import Vector, batch
from tests.integration.model.learner import BATCH, Squares

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ENTER, HIDDEN, ANSWERS = Room("enter"), Room("hidden"), Room("answers")
NUMBERS = {"DATA": Array("<f4", (BATCH,))}
MODELS = Ensemble("model", 20)
ENCODER, CHAIR = "encoder", "chair"

COMMITTEE = System(
    "committee",
    (
        Stream(ENTER, FORWARD, NUMBERS, (ENCODER,)),
        Stream(ENTER, GRADIENT, NUMBERS),
        Stream(HIDDEN, FORWARD, NUMBERS, MODELS.names),
        Stream(HIDDEN, GRADIENT, NUMBERS, (ENCODER,), senders=MODELS.names),
        Stream(ANSWERS, FORWARD, NUMBERS, (CHAIR,)),
        Stream(ANSWERS, GRADIENT, NUMBERS, MODELS.names),
    ),
    (ENCODER, CHAIR, *MODELS.names),
)


def encoder() -> Component:
    handlers = backprop.handlers(ENTER, HIDDEN)
    return Component(ENCODER, COMMITTEE, RuntimeSettings, handlers, model=lambda _: Squares())


def member(name: str) -> Component:
    """Return a member, whose first weights are its own."""
    handlers = backprop.handlers(HIDDEN, ANSWERS)
    return Component(
        name, COMMITTEE, RuntimeSettings, handlers, model=lambda given: Cell(given.seed, BATCH)
    )


def loss(answers: Mapping[str, Vector]) -> dict[str, Vector]:
    """Return the gradient of each answer, which is bounded and depends on all answers."""
    mean = np.mean([*answers.values()], axis=0, dtype="<f4")
    pull = np.float32(0.01) * mean / (1 + np.abs(mean))
    return {name: pull * np.float32(1 + at / 10) for at, name in enumerate(answers)}


def chair() -> Component:
    """Return the component that joins."""

    @join(ANSWERS, FORWARD, replies=[(ANSWERS, GRADIENT)], parts=MODELS.names)
    def decide(parts: Parts, context: Context) -> Any:
        context.counters.add("joined")
        return parts.gradients(loss({name: part.array for name, part in parts.items()}))

    return Component(CHAIR, COMMITTEE, RuntimeSettings, [decide])


def one_process(batches: int) -> dict[str, bytes]:
    """Train all in this process, batch by batch, without rooms; return their states."""
    given = RuntimeSettings(run="committee")
    models: dict[str, Any] = {name: member(name).make_model(given) for name in MODELS.names}
    models[ENCODER] = Squares()
    for number in range(batches):
        first = ForwardPass({"DATA": batch(number)}, 0, "")
        made = ForwardPass(models[ENCODER].forward(first, None), 0, "")
        answers = {name: models[name].forward(made, None)["DATA"] for name in MODELS.names}
        returned = []
        for name, gradient in loss(answers).items():
            returned.append(_learn(models[name], made, gradient))
        total = returned[0]
        for each in returned[1:]:
            total = total + each
        _learn(models[ENCODER], first, total)
    return {name: bytes(model.dump()) for name, model in models.items()}


def _learn(model: Any, made: ForwardPass, gradient: Vector) -> Vector:
    """Take a step; return the gradient of the inputs before it."""
    found, of_inputs = model.backward("", made, {"DATA": gradient}, lambda: None)
    model.apply(model.prepare(found, made, moved_on=False, staleness=0))
    inputs: Vector = of_inputs["DATA"]
    return inputs


def components(name: str) -> list[Component]:
    """Return a component, or all members for the name of one."""
    if name in MODELS.names:
        return [member(each) for each in MODELS.names]
    return [encoder() if name == ENCODER else chair()]


if __name__ == "__main__":
    die_at(os.environ.get("DIE_AT", ""))
    main(components(sys.argv.pop(1)))
