"""The control model: aims, and learns from the gradient of the simulator."""

from __future__ import annotations

import torch

from roomgrad import Component, Context, Message, backprop, on
from roomgrad.learning import TorchModel, fix_threads
from roomgrad_trebuchet.contract import CONTROLMODEL, FORWARD, GRADIENT, INPUT, MODEL, TREBUCHET

from .model import cosine, network
from .settings import ControlModelSettings


def make_model(settings: ControlModelSettings) -> TorchModel:
    """Return the network of the preset with its optimizer and schedule."""
    fix_threads(settings.threads)
    net = network(settings.preset, settings.seed)
    if settings.preset == "original":
        return TorchModel(net, lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True))
    return TorchModel(
        net,
        lambda parameters: torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True),
        scheduler=lambda adam: cosine(adam, settings.train_steps, settings.warmup_steps),
        max_grad_norm=settings.max_grad_norm,
    )


@on(INPUT, FORWARD, replies=[(MODEL, FORWARD)])
def forward(message: Message, context: Context) -> Message:
    """Aim: `(batch, 2)` wind and target in, `(batch, 3)` wind, angle logit, weight logit out."""
    return backprop.forward(message, context, MODEL, **message.fields)


@on(MODEL, GRADIENT, replies=[(INPUT, GRADIENT)])
def gradient(message: Message, context: Context) -> Message:
    """Learn: d loss / d outputs `(batch, 3)` in, one step, d loss / d inputs `(batch, 2)` out."""
    return backprop.learn(message, context, INPUT)


component = Component(
    CONTROLMODEL,
    TREBUCHET,
    ControlModelSettings,
    handlers=[forward, gradient],
    model=make_model,
)
