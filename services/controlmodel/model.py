"""The control network: wind and target in, wind and two logits out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Inputs of about unit size learn faster: wind is N(0, 5) m/s, targets are U(20, 100) m.
WIND_SCALE = 5.0
TARGET_CENTRE, TARGET_SCALE = 60.0, 23.0


class ControlNetwork(nn.Module):
    """2-16-64-16-2. The wind passes through beside the logits, for the simulator to shoot with."""

    def __init__(self, activation: type[nn.Module], normalised: bool) -> None:
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
        centre = (0.0, TARGET_CENTRE) if normalised else (0.0, 0.0)
        scale = (WIND_SCALE, TARGET_SCALE) if normalised else (1.0, 1.0)
        self.register_buffer("centre", torch.tensor(centre), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        self.centre: Tensor
        self.scale: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """`(batch, 2)` wind m/s and target m in, `(batch, 3)` wind, angle and weight logit out."""
        logits = self.layers((inputs - self.centre) / self.scale)  # (batch, 2)
        return torch.cat([inputs[:, :1], logits], dim=1)  # (batch, 3)


def network(preset: str, seed: int) -> ControlNetwork:
    """The network of a preset with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if preset == "original":
            return ControlNetwork(nn.Sigmoid, normalised=False)
        return ControlNetwork(nn.Tanh, normalised=True)


def cosine(step: int, steps: int, warmup: int, highest: float) -> float:
    """Learning rate of a step: a linear warm-up, then half a cosine to 0 (arXiv:1608.03983)."""
    if step < warmup:
        return highest * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return highest * 0.5 * (1.0 + math.cos(math.pi * done))
