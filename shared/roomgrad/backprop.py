"""The two handlers of every learning component: a forward pass, and the step that follows.

A component between two rooms answers forward data from the one into the other, stores what the
gradient will need, and returns the gradient of its inputs after it has learned.
"""

from __future__ import annotations

from typing import Any

from roomgrad.context import Context
from roomgrad.errors import SchemaError
from roomgrad.messages import Message
from roomgrad.rooms import Room


def forward(message: Message, context: Context, room: Room, **fields: Any) -> Message:
    """Pass DATA `(batch, n)` through the model; the outputs `(batch, m)` go to `room`.

    Memory holds the reply's ID, with the inputs and the version of the weights, until the gradient
    with that ID arrives.
    """
    reply = message.reply(room, **fields)
    reply.data = context.model.forward(message.array, key=reply.id)
    context.memory.put(
        reply.id, answers=message.id, data=message.array, weights=context.model.version
    )
    return reply


def learn(message: Message, context: Context, room: Room) -> Message:
    """Learn from d loss / d outputs `(batch, m)` by one step; d loss / d inputs goes to `room`.

    Both gradients are those at the weights of the forward pass, never those after the step.

    Raises StrayMessage for a gradient of an unknown forward message, and SchemaError for one with
    another number of rows.
    """
    asked = context.memory.pop(message.id)
    rows = len(asked["data"])
    if len(message.array) != rows:
        width = message.array.shape[1]
        raise SchemaError(f"DATA: expected ({rows}, {width}) numbers, got {message.array.shape}")
    of_parameters, of_inputs = context.model.backward(
        message.id, asked["weights"], asked["data"], message.array
    )
    context.model.step(of_parameters, asked["weights"])
    return message.reply(room, of_inputs, id=asked["answers"])
