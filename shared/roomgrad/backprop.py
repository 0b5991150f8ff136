"""The two handlers that every learning component has: a forward pass, and the step that follows.

A component that stands between two rooms answers forward data from the one into the other, keeps
what the gradient will need, and passes the gradient of its inputs back when it has learned.
"""

from __future__ import annotations

from typing import Any

from roomgrad.context import Context
from roomgrad.errors import SchemaError
from roomgrad.messages import Message
from roomgrad.rooms import Room


def forward(message: Message, context: Context, room: Room, **fields: Any) -> Message:
    """DATA `(batch, n)` through the model; the outputs `(batch, m)` go to `room`.

    The reply's ID stands in memory, with the inputs and the version of the weights, until the
    gradient that carries it comes back.
    """
    reply = message.reply(room, **fields)
    reply.data = context.model.forward(message.array, key=reply.id)
    context.memory.put(
        reply.id, answers=message.id, data=message.array, weights=context.model.version
    )
    return reply


def learn(message: Message, context: Context, room: Room) -> Message:
    """Takes d loss / d outputs `(batch, m)` for one step; d loss / d inputs goes to `room`.

    Both gradients are those at the weights that made the forward, never at those after the step.

    Raises StrayMessage for a gradient that nobody waits for, and SchemaError for one with another
    number of rows than its forward had.
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
