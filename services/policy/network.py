"""The actor-critic network of a member, and what its gradient is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

Array = NDArray[np.generic]

UNITS = 64
LEARNING_RATE = 0.03
DISCOUNT = 0.99
VALUE_WEIGHT = 0.005
"""Of the squared error of values, which are up to 100, beside that of the policy."""

MOST_ROWS = 16_384
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

    def forward(self, observations: Tensor) -> dict[str, Tensor]:
        """Return DATA `(n, 2)`, log-probabilities, and VALUE `(n,)` of observations `(n, 4)`."""
        scaled = observations * SCALE
        log_probabilities = self.actor(scaled).log_softmax(1)
        return {"DATA": log_probabilities, "VALUE": self.critic(scaled)[:, 0]}


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


def gradients(
    outputs: dict[str, Array], actions: Array, returns: Array
) -> tuple[dict[str, Array], float]:
    """Return d loss / d outputs, and the contribution of the member to what was done well.

    The contribution is the mean of the probability of an action times its advantage.
    """
    tensors = {name: torch.from_numpy(each).requires_grad_() for name, each in outputs.items()}
    chosen = tensors["DATA"].gather(1, torch.from_numpy(actions)[:, None])[:, 0]
    earned = torch.from_numpy(returns)
    advantages = earned - tensors["VALUE"].detach()
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-6)
    loss = -(advantages * chosen).mean() + VALUE_WEIGHT * mse_loss(tensors["VALUE"], earned)
    loss.backward()  # type: ignore[no-untyped-call]
    contribution = float((advantages * chosen.detach().exp()).mean())
    return {name: each.grad.numpy() for name, each in tensors.items()}, contribution  # type: ignore[union-attr]
