"""The two handlers of every learning component: a forward pass, and the step that follows.

A component between two rooms answers forward data from the one into the other, stores what the
gradient will need, and returns the gradient of its inputs after it has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roomgrad.component import Handler, join, on
from roomgrad.context import Context
from roomgrad.messages import Message
from roomgrad.models import ForwardPass
from roomgrad.parts import Parts
from roomgrad.rooms import MessageType, Room

FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT


def forward(
    message: Message,
    context: Context,
    room: Room,
    *,
    inputs: Sequence[str] = ("DATA",),
    **fields: Any,
) -> Message:
    """Pass arrays of a message through the model; the reply to `room` holds its outputs.

    inputs: the names of the arrays `(batch, ...)` that the network gets. DATA alone is its one
        argument; any others are keywords. What it returns is DATA of the reply, or arrays by name.
    fields: more fields of the reply.

    Memory holds the reply's ID, with the inputs and the version of the weights, until the gradient
    with that ID arrives. Raises SchemaError for an input that is missing or is no batch.
    """
    reply = message.reply(room)
    outputs = context.model.forward(message.arrays(inputs), key=reply.id)
    reply.fill(outputs, **fields)
    context.memory.put(reply.id, answers=message.id, **context.model.forward_pass.record())
    return reply


def learn(message: Message, context: Context, room: Room) -> Message:
    """Learn from gradients of the outputs by one step; gradients of the inputs go to `room`.

    Gradients have the names of what they belong to; one that is missing counts as zero. Integer and
    bool inputs have none. A message without any teaches nothing, and its reply has none either.

    Both gradients are those at the weights of the forward pass, never those after the step.

    Raises StrayMessage for a gradient of an unknown forward message, and SchemaError for one that
    does not fit the outputs.
    """
    asked = context.memory.pop(message.id)
    reply = message.reply(room, id=asked["answers"])
    if upstream := message.arrays():
        reply.fill(context.model.learn(message.id, ForwardPass.of(asked), upstream))
    return reply


pass_forward = forward  # `handlers` has a function of that name, which AsyncAPI and traces show


def handlers(
    enter: Room, leave: Room, *, inputs: Sequence[str] = ("DATA",), passed: Sequence[str] = ()
) -> list[Handler]:
    """Return both handlers of a component that learns between two rooms.

    Forward data goes from `enter` through the model to `leave`, gradients come back: see `forward`
    and `learn`, for handlers that do more.

    passed: names of further fields that the reply to `leave` has if the message has them.
    """

    @on(enter, FORWARD, replies=[(leave, FORWARD)])
    def forward(message: Message, context: Context) -> Message:
        """Forward: inputs of the network in, its outputs out."""
        fields = {name: each for name, each in message.fields.items() if name in passed}
        return pass_forward(message, context, leave, inputs=inputs, **fields)

    @on(leave, GRADIENT, replies=[(enter, GRADIENT)])
    def gradient(message: Message, context: Context) -> Message:
        """Learn: d loss / d outputs in, one step, d loss / d inputs before the step out."""
        return learn(message, context, enter)

    return [forward, gradient]


def joined(
    enter: Room, leave: Room, parts: Sequence[str], *, least: int = 0, wait_s: float = 0.0
) -> list[Handler]:
    """Return both handlers of a component that learns from the parts of several senders.

    The network gets DATA of each part as a keyword, `network(left=..., right=...)`; without those
    that did not come in time. Each sender gets its gradient in `enter`: see `roomgrad.join`.
    """

    @join(enter, FORWARD, replies=[(leave, FORWARD)], parts=parts, least=least, wait_s=wait_s)
    def forward(parts: Parts, context: Context) -> Message:
        """Forward: parts by their senders in, outputs of the network out."""
        reply = parts.reply(leave)
        inputs = {name: part.array for name, part in parts.items()}
        reply.fill(context.model.forward(inputs, key=reply.id))
        context.memory.put(reply.id, **parts.record(), **context.model.forward_pass.record())
        return reply

    @on(leave, GRADIENT, replies=[(enter, GRADIENT)])
    def gradient(message: Message, context: Context) -> list[Message]:
        """Learn: d loss / d outputs in, one step, d loss / d part out to each sender."""
        asked = context.memory.pop(message.id)
        upstream = message.arrays()
        made = ForwardPass.of(asked)
        found = context.model.learn(message.id, made, upstream) if upstream else {}
        return Parts.of(message, asked).gradients(found)

    return [forward, gradient]
