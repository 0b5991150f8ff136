"""Read and replace the weights of a component by messages: GET and SET, as in the original.

    Stream(EVOLUTION, MessageType.COMMAND, weight_messages.ASKED, MODELS.names)
    Stream(EVOLUTION, MessageType.CUSTOM, weight_messages.ANSWERED, ("evolution",))

WEIGHTS are the bytes of a safetensors file: `safetensors.numpy` loads arrays from them, and saves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roomgrad.component import Handler, on
from roomgrad.context import Context
from roomgrad.errors import SchemaError
from roomgrad.messages import Message
from roomgrad.rooms import Array, MessageType, Room, Schema, Text

GET, SET = "GET", "SET"

ASKED: Schema = {
    "CMD": Text((GET, SET)),
    "VERSION": Text(optional=True),
    "WEIGHTS": Array("|u1", ("bytes",), optional=True),
}
"""The schema of a request. SET names the version that is to be replaced, and other weights."""

ANSWERED: Schema = {
    "CMD": Text((GET, SET)),
    "VERSION": Text(),
    "WEIGHTS": Array("|u1", ("bytes",), optional=True),
    "REFUSED": Text(optional=True, longest=1024),
}
"""The schema of an answer: the version of the model now, and its weights after GET. If SET was
refused, why.
"""


def handlers(rooms: Sequence[Room], answers: Room) -> list[Handler]:
    """Return the handlers by which a component lets others read and replace its weights.

    rooms: where it is asked, with the schema `ASKED` in TYPE COMMAND.
    answers: where it answers, with the schema `ANSWERED` in TYPE CUSTOM; SENT_BY names it.

    SET is refused if the model has another version by now, for example because it has learned.
    Weights that do not fit by name, dtype and shape become a dead letter, and the model stays.
    """

    def weights(message: Message, context: Context) -> Message:
        """Weights: GET sends them, SET replaces those of a version."""
        command, model = message.fields["CMD"], context.model
        reply = message.reply(answers, type=MessageType.CUSTOM, CMD=command, VERSION=model.version)
        if command == GET:
            reply.fill({"WEIGHTS": np.frombuffer(model.weights(), "|u1")})
            return reply
        version, given = message.fields.get("VERSION"), message.fields.get("WEIGHTS")
        if version is None or given is None:
            raise SchemaError("SET: expected VERSION and WEIGHTS, as GET answers them")
        if version != model.version:
            refused = (
                f"{version} is not the version of {context.component}, which is {model.version}"
            )
            reply.fill({}, REFUSED=f"{refused}: GET the weights again")
            return reply
        reply.fill({}, VERSION=model.replace(given.tobytes()))
        return reply

    return [
        on(room, MessageType.COMMAND, replies=[(answers, MessageType.CUSTOM)])(weights)
        for room in rooms
    ]
