"""Trains: sends wind and target, answers each distance with the gradient of the squared error."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import numpy as np
from swergio import MESSAGE_TYPE, MODEL_STATUS, Client, Trigger
from swergio_toolbox.objects import MutableNumber

from tests.swergio.lines import arguments, tell, tell_when_ready

FORWARD, GRADIENT = MESSAGE_TYPE.DATA.FORWARD, MESSAGE_TYPE.DATA.GRADIENT

given = arguments(
    __doc__,
    steps={"type": int, "default": 100},
    batch={"type": int, "default": 100},
    seed={"type": int, "default": 0},
)
random = np.random.default_rng(given.seed)
targets: dict[str, np.ndarray] = {}
finished = MutableNumber(0)
client = Client(given.name, given.server, given.port, finished=finished)


def next_batch() -> dict[str, Any]:
    root = uuid.uuid4().hex
    wind = random.normal(0, 5, given.batch)
    targets[root] = random.uniform(20, 100, given.batch)
    return {
        "ID": uuid.uuid4().hex,
        "ROOT_ID": root,
        "TYPE": FORWARD.id,
        "TO_ROOM": "input",
        "MODEL_STATUS": MODEL_STATUS.TRAIN.id,
        "DATA": np.stack([wind, targets[root]], axis=1).tolist(),
    }


def judge(msg: dict[str, Any]) -> dict[str, Any] | None:
    if msg["ROOT_ID"] not in targets:
        return None
    off = np.array(msg["DATA"]) - targets.pop(msg["ROOT_ID"])
    tell(loss=float(np.mean(off**2)), miss=float(np.mean(np.abs(off))))
    return {"ID": msg["ID"], "DATA": (2 * off / len(off)).tolist()}


def go_on(msg: dict[str, Any], finished: MutableNumber) -> dict[str, Any]:
    finished += 1
    if finished.value < given.steps:
        return next_batch()
    tell(finished=finished.value, unanswered=len(targets))
    client.close()
    sys.exit()


client.add_eventHandler(judge, GRADIENT, responseRooms="output", trigger=Trigger(FORWARD, "output"))
client.add_eventHandler(go_on, FORWARD, responseRooms="input", trigger=Trigger(GRADIENT, "input"))
tell_when_ready(client)
client.send(next_batch())
client.listen()
