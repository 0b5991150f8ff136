"""What tests serve: networks, and one function in several ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]

LIKE = [[3.0, 0.5, 1.0], [-2.0, 0.7, 0.5]]
"""Wind in m/s, angle in rad, speed."""


class Aim(nn.Module):
    """`(batch, 3)` to `(batch, 3)`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


class Pilot(nn.Module):
    """`(batch, 2)` wind and target to `(batch, 3)` wind and two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], self.layer(x / 50)], dim=1)


def net() -> Aim:
    return Aim()


fixed = nn.Linear(3, 3)


def throw(x: Tensor) -> Tensor:
    """`(batch, 3)` wind, angle, speed to `(batch,)` distance."""
    wind, angle, speed = x.unbind(1)
    return (25 + 5 * speed) ** 2 / 9.81 * torch.sin(angle) + wind


def shoot(x: Array) -> Array:
    wind, angle, speed = np.asarray(x).T
    found: Array = (25 + 5 * speed) ** 2 / 9.81 * np.sin(angle) + wind
    return found


def shoot_vjp(x: Array, upstream: Array) -> Array:
    wind, angle, speed = x.T
    root = 25 + 5 * speed
    by = [wind * 0 + 1, root**2 / 9.81 * np.cos(angle), 10 * root / 9.81 * np.sin(angle)]
    return np.stack(by, axis=1) * upstream[:, None]


def half_vjp(x: Array, upstream: Array) -> Array:
    found = shoot_vjp(x, upstream)
    found[:, 2] /= 2
    return found


def transposed_vjp(x: Array, upstream: Array) -> Array:
    return shoot_vjp(x, upstream).T


def given(x: Array) -> Array:
    return shoot(x)


given.vjp = shoot_vjp  # type: ignore[attr-defined]


def gusty(x: Array, seed: int) -> Array:
    """The same with wind that the seed draws."""
    return shoot(x) + np.random.default_rng(seed).normal(size=len(x))


def turbulent(x: Array) -> Array:
    """The same with wind that nothing repeats."""
    return shoot(x) + np.random.default_rng().normal(size=len(x))


def drawn(x: Tensor) -> Tensor:
    """A torch function that draws."""
    return throw(x) * (1 + 0.1 * torch.randn(len(x)))


def broken(x: Array) -> Array:
    return np.full(len(x), np.nan)


def mean(x: Array) -> Array:
    return np.asarray(x).mean(axis=0)


constants = {"gravity": 9.81}
