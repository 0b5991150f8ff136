"""evalnet: a melody in, six logits out, one for each rating 0 to 5."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

RATINGS = 6
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.02


class EvalNetwork(nn.Module):
    """128-256-64-16-6."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(128, 256),
            nn.ReLU(),
            nn.Linear(256, 64),
            nn.ReLU(),
            nn.Linear(64, 16),
            nn.ReLU(),
            nn.Linear(16, RATINGS),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Canonical genomes `(batch, 128)` float32 in, logits `(batch, 6)` out."""
        logits: Tensor = self.layers(inputs)
        return logits


def network(seed: int) -> EvalNetwork:
    """The network with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EvalNetwork()


def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that trains the network; its rate is set anew for each step."""
    return torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)


def learning_rate(step: int) -> float:
    """Learning rate of a step, counted from the first of the network's life."""
    return LEARNING_RATE


def probabilities(logits: ArrayLike) -> NDArray[np.float64]:
    """Softmax of `(n, 6)` logits, float64 `(n, 6)`."""
    rows = np.asarray(logits, dtype=np.float64)
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def expected(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The expected rating of `(n, 6)` probabilities, float64 `(n,)` of 0 to 5."""
    return probs @ np.arange(RATINGS, dtype=np.float64)
