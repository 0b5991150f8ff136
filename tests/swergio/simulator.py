"""A simulator of one formula: the distance of a shot in a vacuum, blown about by the wind."""

from __future__ import annotations

import uuid
from typing import Any

import torch
from swergio import MESSAGE_TYPE, MODEL_STATUS, Client, Trigger

from tests.swergio.lines import arguments, tell_when_ready

FORWARD, GRADIENT = MESSAGE_TYPE.DATA.FORWARD, MESSAGE_TYPE.DATA.GRADIENT

given = arguments(__doc__)
torch.set_num_threads(1)
memory: dict[str, tuple[str, torch.Tensor, torch.Tensor]] = {}
client = Client(given.name, given.server, given.port)


def distance(controls: torch.Tensor) -> torch.Tensor:
    wind, angle, weight = controls.T
    speed = 25 + 5 * weight  # m/s
    return speed**2 / 9.81 * torch.sin(torch.pi * torch.sigmoid(angle)) + wind


def shoot(msg: dict[str, Any]) -> dict[str, Any]:
    controls = torch.tensor(msg["DATA"], requires_grad=True)
    shots = distance(controls)
    reply = uuid.uuid4().hex
    if msg.get("MODEL_STATUS") == MODEL_STATUS.TRAIN.id:
        memory[reply] = (msg["ID"], controls, shots)
    return {"ID": reply, "DATA": shots.tolist()}


def gradient(msg: dict[str, Any]) -> dict[str, Any] | None:
    if msg["ID"] not in memory:
        return None
    asked, controls, shots = memory.pop(msg["ID"])
    shots.backward(torch.tensor(msg["DATA"]))
    return {"ID": asked, "DATA": controls.grad.tolist()}


client.add_eventHandler(shoot, FORWARD, responseRooms="output", trigger=Trigger(FORWARD, "model"))
client.add_eventHandler(
    gradient, GRADIENT, responseRooms="model", trigger=Trigger(GRADIENT, "output")
)
tell_when_ready(client)
client.listen()
