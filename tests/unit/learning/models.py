"""Networks and calls that the tests of `roomgrad.learning` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roomgrad.learning import TorchModel
from roomgrad.learning.files import read
from roomgrad.learning.updates import Gradient
from roomgrad.models import Arrays, ForwardPass

DATA = np.random.default_rng(0).standard_normal((5, 2)).astype("<f4")
UPSTREAM = {"DATA": np.random.default_rng(1).standard_normal((5, 1)).astype("<f4")}
NOW = ForwardPass({"DATA": DATA}, 7, "v")
"""A forward pass at the weights that `loaded` loads."""


def dense(seed: int = 0) -> nn.Sequential:
    """2-8-1 with tanh."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.01)


def loaded(model: TorchModel, content: bytes = b"") -> bytes:
    """Load a state into a model: its initial one, or the given one. Return it."""
    content = content or bytes(model.dump())
    model.load(content)
    return content


def gradient(model: TorchModel, made: ForwardPass = NOW, upstream: Arrays = UPSTREAM) -> Gradient:
    """Compute a parameter gradient of a forward pass at the loaded weights."""
    return model.backward("no graph", made, upstream, lambda: None)[0]


def step(
    model: TorchModel, gradient: Gradient, made: ForwardPass = NOW, *, staleness: int = 0
) -> bytes:
    """Learn from a gradient, of a model that has moved on if it is stale; return the state."""
    moved_on = staleness > 0
    model.apply(model.prepare(gradient, made, moved_on=moved_on, staleness=staleness))
    return bytes(model.dump())


def learn(model: TorchModel, count: int = 1) -> bytes:
    """Learn so many times from the same batch; return the state."""
    for _ in range(count):
        step(model, gradient(model))
    return bytes(model.dump())


def continued(make: Callable[[], TorchModel], first: int, then: int) -> bytes:
    """Learn in one model, and then in another that gets its stored state."""
    content = learn(make(), first)
    other = make()
    other.load(content)
    return learn(other, then)


def tensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a state."""
    return read(content)[0]


def weights_of(content: bytes) -> dict[str, Tensor]:
    """Return what a state holds of the network."""
    return {n: t for n, t in tensors(content).items() if "/" not in n}


def bits(products: Any) -> bytes:
    """Return the bytes of a parameter gradient and of the input gradients."""
    of_parameters, of_inputs = products
    parts = [*of_parameters.parameters, *of_parameters.buffers.values()]
    return b"".join(each.numpy().tobytes() for each in parts) + b"".join(
        each.tobytes() for each in of_inputs.values()
    )
