"""The trainer: sends batches, and answers distances with the gradient of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import structlog

from roomgrad import Component, Context, Message, on
from roomgrad.errors import SchemaError, StrayMessage
from roomgrad_trebuchet.contract import FORWARD, GRADIENT, INPUT, OUTPUT, TRAINER, TREBUCHET

from .batches import batch, squared_error
from .settings import TrainerSettings

log = structlog.get_logger()

LOSSES_KEPT = 10_000  # in the table `losses`; older steps are deleted


def open_batch(number: int, context: Context) -> Message | None:
    """Return batch `number` as the first message of its root, or None after the last batch."""
    settings = context.settings
    if number >= settings.train_steps:
        return None
    data = batch(settings.seed, number, settings.batch_size)
    message = Message.open(INPUT, data, seed=number)
    context.memory.put(message.root_id, ROOT_ID=message.root_id, batch=number, target=data[:, 1])
    context.counters.add("sent")
    return message


def start(context: Context) -> Iterator[Message]:
    """Send the first batches of a run: as many as the window holds."""
    for number in range(context.settings.window):
        if message := open_batch(number, context):
            yield message


@on(OUTPUT, FORWARD, replies=[(OUTPUT, GRADIENT)], when=lambda message: message.wants_gradient)
def backward(message: Message, context: Context) -> Message:
    """Loss: `(batch,)` distances in, d loss / d distance out. Removes the targets from memory."""
    asked = context.memory.get(message.root_id)
    if asked is None or "target" not in asked:
        raise StrayMessage(f"no targets for root {message.root_id}: unknown, or answered before")
    if message.array.shape != asked["target"].shape:
        raise SchemaError(
            f"DATA: expected {asked['target'].shape} distances, got {message.array.shape}"
        )
    loss, miss, gradient = squared_error(message.array, asked["target"])
    number = asked["batch"]
    context.memory.put(message.root_id, batch=number)
    losses = context.table("losses")
    losses.put(str(number), step=number, loss=loss, miss_m=miss)
    losses.delete(str(number - LOSSES_KEPT))
    context.report(STEP=number, LOSS=loss, MISS_M=miss)
    return message.reply(OUTPUT, gradient, type=GRADIENT, id=message.id)


@on(INPUT, GRADIENT, replies=[(INPUT, FORWARD)])
def next_batch(message: Message, context: Context) -> Message | None:
    """Finish a root when the gradient of its batch has returned, and send another batch."""
    asked = context.memory.pop(message.root_id)
    context.counters.add("finished")
    steps = context.settings.train_steps
    if asked["batch"] == steps - 1:
        log.info("the last batch is done", batches=f"{steps} of {steps}")
    return open_batch(asked["batch"] + context.settings.window, context)


def given_up(records: list[dict[str, Any]], context: Context) -> Iterator[Message]:
    """Count batches that have become dead letters, and send others."""
    for record in records:
        context.counters.add("dead")
        if message := open_batch(record["batch"] + context.settings.window, context):
            yield message


component = Component(
    TRAINER,
    TREBUCHET,
    TrainerSettings,
    handlers=[backward, next_batch],
    on_start=start,
    on_dead=given_up,
    tables=["losses"],
)
