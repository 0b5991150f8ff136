"""A line of two components that square what they get: a guest enters at `a` and leaves at `c`.

Also programs, `python -m tests.integration.guests.squares`: `guest RUN URL` opens roots and waits
to be killed, `first` and `second` serve a component.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    main,
    on,
)
from roomgrad.redis.client import Client
from roomgrad.redis.guest_client import GuestClient
from roomgrad.rooms import ModelStatus

A, B, C = Room("a"), Room("b"), Room("c")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
NUMBERS = {"DATA": Array("<f8", ("batch",))}
COMPONENTS = {"first": (A, B), "second": (B, C)}
SQUARES = System(
    "squares",
    (
        Stream(A, FORWARD, NUMBERS, ("first",)),
        Stream(B, FORWARD, NUMBERS, ("second",)),
        Stream(C, FORWARD, NUMBERS),
        Stream(C, GRADIENT, NUMBERS, ("second",)),
        Stream(B, GRADIENT, NUMBERS, ("first",)),
        Stream(A, GRADIENT, NUMBERS),
    ),
    tuple(COMPONENTS),
)


def numbers(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype="<f8")


def component(name: str) -> Component:
    """Return one of the two components. It refuses negative numbers."""
    enter, leave = COMPONENTS[name]

    @on(enter, FORWARD, replies=[(leave, FORWARD)])
    def forward(message: Message, context: Context) -> Message:
        context.counters.add("forwards")
        if (message.array < 0).any():
            raise ValueError("negative numbers are not squared here")
        reply = message.reply(leave, message.array**2)
        context.memory.put(reply.id, answers=message.id, inputs=message.array)
        return reply

    @on(leave, GRADIENT, replies=[(enter, GRADIENT)])
    def backward(message: Message, context: Context) -> Message:
        context.counters.add("learned" if message.learns else "differentiated")
        asked = context.memory.pop(message.id)
        gradient = 2 * asked["inputs"] * message.array
        return message.reply(enter, gradient, id=asked["answers"])

    return Component(name, SQUARES, RuntimeSettings, [forward, backward])


def opened(*values: float, status: ModelStatus = ModelStatus.TRAIN) -> Message:
    return Message.open(A, numbers(*values), status=status)


def gradient_of(answer: Message) -> Message:
    """Return the gradient of the sum of an answer."""
    ones = np.ones_like(answer.array)
    return answer.reply(C, ones, type=GRADIENT, id=answer.id)


def be_killed(run: str, url: str) -> None:
    """Open roots as a guest, get half of the answers, and wait."""
    client = Client(SQUARES, run, url)
    guest = GuestClient(client, "doomed", lease_s=1)
    roots = [opened(1.0, n) for n in range(20)]
    for root in roots:
        guest.open(root, C)
    for root in roots[:10]:
        answer = guest.wait(root.root_id)
        if root is roots[0]:
            guest.send(answer.reply(C, answer.array, type=GRADIENT, id=answer.id))
    print("open", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1] == "guest":
        be_killed(*sys.argv[2:])
    main(component(sys.argv.pop(1)))
