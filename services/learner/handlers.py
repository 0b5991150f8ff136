"""The learner: collects melodies, asks raters about some, and trains evalnet on the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from roomgrad import Component, Context, Message, on
from roomgrad.errors import RoomgradError, SchemaError, StrayMessage
from roomgrad_melody import formats
from roomgrad_melody.contract import (
    ASK,
    COMMAND,
    CONTROL,
    CUSTOM,
    EVOLUTION_ROOM,
    FORWARD,
    GRADIENT,
    HEADS,
    LABELS_LOG,
    LEARNER,
    MELODY,
    PAIRS_LOG,
    TRAININPUT,
    TRAINOUTPUT,
    USER,
    is_question,
)

from . import answers, votes
from .settings import LearnerSettings
from .state import TABLE
from .step import Step
from .training import loss

LOSSES_KEPT = 10_000  # in the hash `losses`; older steps leave it

SENDS = ((EVOLUTION_ROOM, CUSTOM), (USER, CUSTOM), (TRAININPUT, FORWARD), (CONTROL, COMMAND))


def start(context: Context) -> list[Message]:
    """Store the labels of `labels_file` and train on them; in lock-step, breeding begins then."""
    step = Step(context)
    step.labelled(answers.take_rows(read_labels(context), step.state, context))
    step.begin()
    return step.go_on()


def read_labels(context: Context) -> list[formats.Row]:
    """Return the labels of `labels_file`; none, with a warning, if it cannot be read."""
    path = context.settings.labels_file
    if not path:
        return []
    try:
        found = formats.read(Path(path))
    except (RoomgradError, OSError) as error:
        context.log.warning("starting without labels", reason=str(error))
        return []
    if found.problems or found.pairs:
        problem = str(found.problems[0]) if found.problems else "it has votes, not ratings"
        context.log.warning("starting without labels", file=path, problem=problem)
        return []
    return found.rows


@on(EVOLUTION_ROOM, CUSTOM, replies=SENDS, when=lambda m: {"SCORES", "VERSION"} <= m.fields.keys())
def gather(message: Message, context: Context) -> list[Message]:
    """Read GENOMES with SCORES: those that were requested here, or of a generation of evolution."""
    step = Step(context)
    melodies, scores = len(message.fields["GENOMES"]), len(message.fields["SCORES"])
    if melodies != scores:
        raise SchemaError(
            f"SCORES: expected ({melodies}, {HEADS}) for as many GENOMES, got ({scores}, {HEADS})"
        )
    if context.memory.get(message.root_id) is not None:
        context.memory.delete(message.root_id)
        step.scored(message)
    elif "GENERATION" in message.fields:
        step.gathered(message)
    else:
        return []
    return step.go_on()


@on(USER, CUSTOM, replies=SENDS, when=lambda message: not is_question(message.fields))
def answer(message: Message, context: Context) -> list[Message]:
    """Read GENOMES `(n, 128)` with FITNESS `(n,)`, or PAIR `(2, 128)` with PREFER.

    They are answers to questions, or with CONFLICT an import.
    """
    step = Step(context)
    kind = votes if message.fields.keys() & {"PAIR", "PREFER"} else answers
    take = kind.take_import if "CONFLICT" in message.fields else kind.take
    step.labelled(take(message, step.state, context))
    return step.go_on()


@on(CONTROL, COMMAND, replies=SENDS, when=lambda message: message.fields["CMD"] == ASK)
def ask(message: Message, context: Context) -> list[Message]:
    """Add random candidates when a rater has no question, as breeding may have stopped."""
    step = Step(context)
    step.add_outside(max(0, context.settings.nr_of_unlabeled_data - len(step.pool)))
    return step.go_on()


@on(TRAINOUTPUT, FORWARD, replies=[(TRAINOUTPUT, GRADIENT)], when=lambda m: m.wants_gradient)
def backward(message: Message, context: Context) -> Message:
    """Loss: scores `(batch, 16)` in, d loss / d scores out. Removes the targets from memory."""
    asked = context.memory.get(message.root_id)
    if asked is None or "target" not in asked:
        raise StrayMessage(f"no targets for root {message.root_id}: unknown, or answered before")
    target, weights, histogram = map(asked.pop, ("target", "head_weights", "histogram"))
    preferences = asked.pop("preferences", np.empty(0, np.int64))
    expected = (len(target) + 2 * len(preferences), HEADS)
    if message.array.shape != expected:
        raise SchemaError(f"DATA: expected {expected} scores, got {message.array.shape}")
    mean, gradient = loss(message.array, target, preferences, weights, histogram)
    context.memory.put(message.root_id, **asked)
    step = asked["step"]
    losses = context.table("losses")
    losses.put(str(step), step=step, loss=mean, chain=asked["chain"])
    losses.delete(str(step - LOSSES_KEPT))
    context.report(STEP=step, LOSS=mean)
    return message.reply(TRAINOUTPUT, gradient, type=GRADIENT, id=message.id)


@on(TRAININPUT, GRADIENT, replies=SENDS)
def next_batch(message: Message, context: Context) -> list[Message]:
    """Open the next batch when the gradient of one has returned, or end the training run."""
    step = Step(context)
    asked = context.memory.pop(message.root_id)
    context.counters.add("finished")
    step.trained(asked)
    return step.go_on()


def given_up(records: list[dict[str, Any]], context: Context) -> list[Message]:
    """Go on after a batch or a request for scores has become a dead letter."""
    step = Step(context)
    for record in records:
        if "chain" in record:
            context.counters.add("dead")
            step.trained(record)
        elif step.state.scoring == record["ROOT_ID"]:
            step.state.scoring = ""
    return step.go_on()


component = Component(
    LEARNER,
    MELODY,
    LearnerSettings,
    handlers=[gather, answer, ask, backward, next_batch],
    on_start=start,
    on_dead=given_up,
    tables=["labels", "pairs", "compared", "questions", "curve", "losses", TABLE],
    logs=[LABELS_LOG, PAIRS_LOG],
)
