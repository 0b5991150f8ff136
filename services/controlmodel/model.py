"""The control network: wind and target in, wind and two logits out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# Inputs of about unit size learn faster: wind is N(0, 5) m/s, targets are U(20, 100) m.
WIND_SCALE = 5.0
TARGET_CENTER, TARGET_SCALE = 60.0, 23.0


class ControlNetwork(nn.Module):
    """A network of 2-16-64-16-2 units. The wind is passed on, as the simulator needs it."""

    def __init__(self, activation: type[nn.Module], normalized: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 16),
            activation(),
            nn.Linear(16, 64),
            activation(),
            nn.Linear(64, 16),
            activation(),
            nn.Linear(16, 2),
        )
        center = (0.0, TARGET_CENTER) if normalized else (0.0, 0.0)
        scale = (WIND_SCALE, TARGET_SCALE) if normalized else (1.0, 1.0)
        self.register_buffer("center", torch.tensor(center), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.center: Tensor
        self.scale: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Aim: `(batch, 2)` wind in m/s, target in m; returns `(batch, 3)` wind and two logits."""
        logits = self.layers((inputs - self.center) / self.scale)  # (batch, 2)
        return torch.cat([inputs[:, :1], logits], dim=1)  # (batch, 3)


def network(preset: str) -> ControlNetwork:
    """Return the network of a preset."""
    if preset == "original":
        return ControlNetwork(nn.Sigmoid, normalized=False)
    return ControlNetwork(nn.Tanh, normalized=True)


def cosine(optimizer: Optimizer, steps: int, warmup: int) -> LambdaLR:
    """Return a schedule: linear warm-up, then half a cosine down to 0 (arXiv:1608.03983)."""

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.5 * (1.0 + math.cos(math.pi * done))

    return LambdaLR(optimizer, share)
