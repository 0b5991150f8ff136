"""One of three clients in whose circle a hundred pairs of numbers go round, there and back.

trainer -> input -> control -> model -> simulator -> output -> trainer, and as gradients from the
trainer to `output`, `model` and `input`: six messages a round. The trainer counts the rounds.
"""

from __future__ import annotations

import random
import sys
import time
import uuid
from typing import Any

from swergio import MESSAGE_TYPE, MODEL_STATUS, Client, Trigger

from tests.swergio.lines import arguments, tell, tell_when_ready

FORWARD, GRADIENT = MESSAGE_TYPE.DATA.FORWARD, MESSAGE_TYPE.DATA.GRADIENT
WAYS = {"control": ("input", "model"), "simulator": ("model", "output")}
WARM_UP = 2  # rounds that are not counted

given = arguments(
    __doc__,
    role={"choices": ["trainer", *WAYS], "required": True},
    seconds={"type": float, "default": 3.0},
)
client = Client(given.name, given.server, given.port)
numbers = [[random.gauss(0, 5), random.uniform(20, 100)] for _ in range(100)]
rounds, began = 0, 0.0


def first() -> dict[str, Any]:
    """A round begins."""
    root = {"ID": uuid.uuid4().hex, "ROOT_ID": uuid.uuid4().hex, "TYPE": FORWARD.id}
    status = MODEL_STATUS.TRAIN.id
    return {**root, "TO_ROOM": "input", "MODEL_STATUS": status, "DATA": numbers}


def turn(msg: dict[str, Any]) -> dict[str, Any]:
    """The forward has come to its end: back it goes."""
    return {"ID": msg["ID"], "DATA": msg["DATA"]}


def count(msg: dict[str, Any]) -> dict[str, Any]:
    """A round is over: the next one, until the time is over."""
    global rounds, began
    rounds += 1
    if rounds == WARM_UP:
        began = time.perf_counter()
    elif rounds > WARM_UP and (seconds := time.perf_counter() - began) >= given.seconds:
        tell(rounds=rounds - WARM_UP, seconds=seconds)
        client.close()
        sys.exit()
    return first()


def pass_on(msg: dict[str, Any]) -> dict[str, Any]:
    return {"DATA": msg["DATA"]}


def answer(function: Any, source: tuple[str, Any], to: tuple[str, Any]) -> None:
    """What comes from one room and TYPE is answered in another one."""
    (came, type_), (room, reply) = source, to
    client.add_eventHandler(function, reply, responseRooms=room, trigger=Trigger(type_, came))


if given.role == "trainer":
    answer(turn, ("output", FORWARD), ("output", GRADIENT))
    answer(count, ("input", GRADIENT), ("input", FORWARD))
else:
    there, back = WAYS[given.role]
    answer(pass_on, (there, FORWARD), (back, FORWARD))
    answer(pass_on, (back, GRADIENT), (there, GRADIENT))
tell_when_ready(client)
if given.role == "trainer":
    client.send(first())
client.listen()
