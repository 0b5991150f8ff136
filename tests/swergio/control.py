"""The control model: a small network that aims, and learns from the gradient of its aim.

The simulator takes the weight as kilograms beside 200 (`--weight-head plus200`).
"""

from __future__ import annotations

import uuid
from typing import Any

import torch
from swergio import MESSAGE_TYPE, MODEL_STATUS, Client, Trigger
from torch import nn

from tests.swergio.lines import arguments, tell_when_ready

FORWARD, GRADIENT = MESSAGE_TYPE.DATA.FORWARD, MESSAGE_TYPE.DATA.GRADIENT
CENTRE, SCALE = torch.tensor([0.0, 60.0]), torch.tensor([5.0, 23.0])  # of wind and target

given = arguments(__doc__, seed={"type": int, "default": 0})
torch.set_num_threads(1)
torch.manual_seed(given.seed)
model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
memory: dict[str, tuple[str, torch.Tensor]] = {}
client = Client(given.name, given.server, given.port)


def controls(inputs: torch.Tensor) -> torch.Tensor:
    logits = model((inputs - CENTRE) / SCALE)
    return torch.cat([inputs[:, :1], logits], dim=1)


def aim(msg: dict[str, Any]) -> dict[str, Any]:
    inputs = torch.tensor(msg["DATA"])
    reply = uuid.uuid4().hex
    if msg.get("MODEL_STATUS") == MODEL_STATUS.TRAIN.id:
        memory[reply] = (msg["ID"], inputs)
    return {"ID": reply, "DATA": controls(inputs).tolist()}


def learn(msg: dict[str, Any]) -> dict[str, Any] | None:
    if msg["ID"] not in memory:
        return None
    asked, inputs = memory.pop(msg["ID"])
    inputs.requires_grad_()
    optimizer.zero_grad()
    controls(inputs).backward(torch.tensor(msg["DATA"]))
    nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    return {"ID": asked, "DATA": inputs.grad.tolist()}


client.add_eventHandler(aim, FORWARD, responseRooms="model", trigger=Trigger(FORWARD, "input"))
client.add_eventHandler(learn, GRADIENT, responseRooms="input", trigger=Trigger(GRADIENT, "model"))
tell_when_ready(client)
client.listen()
