"""A network of real size in place of the slope, with dropout, and its training in one process."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from roomgrad.learning import TorchModel, fix_threads, forward_seed
from tests.chaos.contract import LEARNER, WIDTH, batch

RATE = 1e-4
SEED = 0  # of the run


@dataclass(frozen=True)
class Step:
    """A step that the log of effects tells of."""

    number: int
    made: int
    """The step of the weights of its forward pass."""


def network(parameters: int) -> nn.Sequential:
    """Return a network of about so many parameters, `(batch, WIDTH)` in and out."""
    hidden = max(1, round(math.sqrt(parameters)) - WIDTH - 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return nn.Sequential(
            nn.Linear(WIDTH, hidden),
            nn.Tanh(),
            nn.Dropout(0.1),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, WIDTH),
        )


def model(parameters: int) -> TorchModel:
    """Return the network as the learner has it."""
    fix_threads(1)
    return TorchModel(network(parameters), lambda each: torch.optim.Adam(each, lr=RATE))


def in_one_process(parameters: int, steps: Sequence[Step]) -> dict[str, bytes]:
    """Take the same steps without rooms; return the bytes of each parameter by name."""
    fix_threads(1)
    now, then = network(parameters), network(parameters)
    optimizer = torch.optim.Adam(now.parameters(), lr=RATE)
    late = Counter(each.made for at, each in enumerate(steps) if each.made != at)
    older: dict[int, dict[str, Tensor]] = {}
    for at, step in enumerate(steps):
        if late[at]:
            older[at] = {name: each.clone() for name, each in now.state_dict().items()}
        made_by = now
        if step.made != at:
            made_by = then
            then.load_state_dict(older[step.made])
            late[step.made] -= 1
            if not late[step.made]:
                del older[step.made]
        gradients = _gradients(made_by, step.number)
        for parameter, gradient in zip(now.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.param_groups[0]["lr"] = RATE / math.sqrt(1 + at - step.made)
        optimizer.step()
    return {name: each.numpy().tobytes() for name, each in now.state_dict().items()}


def _gradients(made_by: nn.Module, number: int) -> Sequence[Tensor]:
    """Return those of the parameters, for the answer of the labeller: the outputs themselves."""
    torch.manual_seed(forward_seed(SEED, LEARNER, number))
    outputs = made_by(torch.from_numpy(batch(number)))
    return torch.autograd.grad(outputs, list(made_by.parameters()), outputs.detach())
