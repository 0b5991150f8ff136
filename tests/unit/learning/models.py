"""Networks and calls that the tests of `roomgrad.learning` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from roomgrad.learning import TorchModel
from roomgrad.learning.model import Gradient
from roomgrad.models import Arrays, ForwardPass, ModelState

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


def loaded(model: TorchModel, version: str = "v", **parts: bytes) -> ModelState:
    """Load a state into a model: its initial one, or the given bytes."""
    weights, optimizer = model.initial()
    state = ModelState(version, 0, **{"weights": weights, "optimizer": optimizer, **parts})
    model.load(state)
    return state


def gradient(model: TorchModel, made: ForwardPass = NOW, upstream: Arrays = UPSTREAM) -> Gradient:
    """Compute a parameter gradient of a forward pass at the loaded weights."""
    return model.backward("no graph", made, upstream, lambda: None)[0]


def learn(model: TorchModel, count: int = 1, made: ForwardPass = NOW) -> tuple[bytes, bytes]:
    """Learn so many times from the same batch; return weights and optimizer state."""
    stored = model.initial()
    for _ in range(count):
        stored = model.step(gradient(model, made), made, False, 0)
    return stored


def continued(make: Callable[[], TorchModel], first: int, then: int) -> tuple[bytes, bytes]:
    """Learn in one model, and then in another that gets its stored state."""
    weights, optimizer = learn(loaded_model(make), first)
    other = make()
    loaded(other, weights=weights, optimizer=optimizer)
    return learn(other, then)


def loaded_model(make: Callable[[], TorchModel]) -> TorchModel:
    model = make()
    loaded(model)
    return model


def bits(products: Any) -> bytes:
    """Return the bytes of a parameter gradient and of the input gradients."""
    of_parameters, of_inputs = products
    parts = [*of_parameters.parameters, *of_parameters.buffers.values()]
    return b"".join(each.numpy().tobytes() for each in parts) + b"".join(
        each.tobytes() for each in of_inputs.values()
    )
