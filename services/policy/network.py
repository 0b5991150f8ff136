"""The actor-critic network of a member, and what its gradient is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]

UNITS = 64
LEARNING_RATE = 0.03
DISCOUNT = 0.99
VALUE_WEIGHT = 0.005
"""Of the squared error of values, which are up to 100, beside that of the policy."""

MOST_ROWS = 8192
"""So many steps of an episode are learned from, drawn from all."""

SCALE = torch.tensor([0.5, 0.5, 5.0, 0.5])  # of observations


class ActorCritic(nn.Module):
    """Networks of 4-64-2 and 4-64-1 units: observations in, log-probabilities and values out."""

    def __init__(self) -> None:
        super().__init__()
        logits = nn.Linear(UNITS, 2)
        nn.init.uniform_(logits.weight, -0.01, 0.01)  # both actions are about as likely at first
        self.actor = nn.Sequential(nn.Linear(4, UNITS), nn.Tanh(), logits)
        self.critic = nn.Sequential(nn.Linear(4, UNITS), nn.Tanh(), nn.Linear(UNITS, 1))

    def forward(self, DATA: Tensor, ACTIONS: Tensor | None = None) -> dict[str, Tensor]:
        """Return log-probabilities of both actions `(n, 2)`, or of some `(n,)`, as DATA; and VALUE.

        DATA: observations `(n, 4)`. ACTIONS: which were taken `(n,)`. VALUE is `(n,)`.
        """
        scaled = DATA * SCALE
        found = self.actor(scaled).log_softmax(1)
        if ACTIONS is not None:
            found = found.gather(1, ACTIONS[:, None])[:, 0]
        return {"DATA": found, "VALUE": self.critic(scaled)[:, 0]}


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer of a member."""
    return torch.optim.Adam(parameters, lr=LEARNING_RATE)


def discounted(rewards: Array, lengths: Array, beyond: Array) -> NDArray[np.float32]:
    """Return what is earned from each step on `(steps, envs)`.

    rewards: `(steps, envs)`. lengths: how many steps an environment was run `(envs,)`.
    beyond: the value of its last observation `(envs,)`, 0 if it has ended there.
    """
    returns = np.empty_like(rewards)
    later = np.zeros(rewards.shape[1])
    for step in range(len(rewards) - 1, -1, -1):
        later = rewards[step] + DISCOUNT * np.where(lengths == step + 1, beyond, later)
        returns[step] = later
    return returns.astype("<f4")


def drawn(lengths: Array, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return steps and environments of an episode to learn from, at most `MOST_ROWS`."""
    running = np.arange(lengths.max())[:, None] < lengths
    steps, envs = np.nonzero(running)
    rows = np.random.default_rng(seed).permutation(len(steps))[:MOST_ROWS]
    return steps[rows], envs[rows]


def advantages(returns: Array, values: Array) -> NDArray[np.float32]:
    """Return how much more was earned than expected `(n,)`, in standard deviations."""
    more = returns - values
    return np.asarray((more - more.mean()) / (more.std() + 1e-6), "<f4")


def value_gradient(returns: Array, values: Array) -> NDArray[np.float32]:
    """Return d loss / d values `(n,)` of the squared error."""
    return np.asarray(2 * VALUE_WEIGHT / len(values) * (values - returns), "<f4")
