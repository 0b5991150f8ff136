"""The smallest model that learns: one slope per column, by gradient descent with momentum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.models import ModelState
from tests.chaos.contract import WIDTH

RATE, MOMENTUM = 1e-3, 0.9


class Slope:
    """`Trainable` in numpy, so that a killed learner is back in half a second: y = x * slope."""

    def __init__(self) -> None:
        self._slope = np.ones(WIDTH, "<f4")
        self._speed = np.zeros(WIDTH, "<f4")

    def initial(self) -> tuple[bytes, bytes]:
        return np.ones(WIDTH, "<f4").tobytes(), np.zeros(WIDTH, "<f4").tobytes()

    def load(self, state: ModelState) -> None:
        self._slope = np.frombuffer(state.weights, "<f4").copy()
        self._speed = np.frombuffer(state.optimizer, "<f4").copy()

    def forward(self, inputs: NDArray[Any], version: str, key: str | None) -> NDArray[Any]:
        """`(batch, WIDTH)` in and out."""
        return np.asarray(inputs * self._slope, "<f4")

    def backward(self, *_: Any) -> None:
        """No graph is kept: every gradient is computed at the weights that Redis kept for it."""

    def recompute(
        self, weights: bytes, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        slope = np.frombuffer(weights, "<f4")
        return (inputs * upstream).mean(axis=0), np.asarray(upstream * slope, "<f4")

    def step(self, gradient: NDArray[Any], staleness: int = 0) -> tuple[bytes, bytes]:
        self._speed = np.asarray(MOMENTUM * self._speed + gradient, "<f4")
        self._slope = np.asarray(self._slope - RATE * self._speed, "<f4")
        return self._slope.tobytes(), self._speed.tobytes()
