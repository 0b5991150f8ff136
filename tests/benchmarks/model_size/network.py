"""The trebuchet's network with wider hidden layers."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from tests.benchmarks.model_size.task import widths


def network(widening: int) -> nn.Sequential:
    """Return a network with the initial weights of seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths(widening)):
            layers += [nn.Linear(before, after), nn.Tanh()]
        return nn.Sequential(*layers[:-1])
