"""The control model: aims, and learns from the gradient of the simulator."""

from __future__ import annotations

import torch

from roomgrad import Component, backprop
from roomgrad.learning import TorchModel
from roomgrad_trebuchet.contract import CONTROLMODEL, INPUT, MODEL, TREBUCHET

from .model import cosine, network
from .settings import ControlModelSettings


def make_model(settings: ControlModelSettings) -> TorchModel:
    """Return the network of the preset with its optimizer and schedule."""
    net = network(settings.preset)
    if settings.preset == "original":
        return TorchModel(net, lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True))
    return TorchModel(
        net,
        lambda parameters: torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True),
        scheduler=lambda adam: cosine(adam, settings.train_steps, settings.warmup_steps),
        max_grad_norm=settings.max_grad_norm,
    )


component = Component(
    CONTROLMODEL,
    TREBUCHET,
    ControlModelSettings,
    handlers=backprop.handlers(INPUT, MODEL, passed=["FRAMES"]),
    model=make_model,
)
