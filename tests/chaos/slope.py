"""The smallest model that learns: one slope per column, by gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from roomgrad.models import Arrays, ForwardPass, ModelState
from tests.chaos.contract import WIDTH

RATE, MOMENTUM = 1e-3, 0.9

Vector = NDArray[np.float32]


class Slope:
    """`Trainable` in numpy, so that a killed learner is back in half a second: y = x * slope."""

    accumulate = 1

    def __init__(self) -> None:
        self._slope = np.ones(WIDTH, "<f4")
        self._speed = np.zeros(WIDTH, "<f4")

    def initial(self) -> tuple[bytes, bytes]:
        return np.ones(WIDTH, "<f4").tobytes(), np.zeros(WIDTH, "<f4").tobytes()

    def load(self, state: ModelState) -> None:
        self._slope = np.frombuffer(state.weights, "<f4").copy()
        self._speed = np.frombuffer(state.optimizer, "<f4").copy()

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        """`(batch, WIDTH)` in and out."""
        return {"DATA": np.asarray(made.inputs["DATA"] * self._slope, "<f4")}

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], bytes | None]
    ) -> tuple[Vector, Arrays]:
        """No graph is kept: every gradient is computed at the weights that Redis kept for it."""
        stored = weights()
        slope = self._slope if stored is None else np.frombuffer(stored, "<f4")
        inputs, of_outputs = made.inputs["DATA"], upstream["DATA"]
        return (inputs * of_outputs).mean(axis=0), {"DATA": np.asarray(of_outputs * slope, "<f4")}

    def step(
        self, gradient: Vector, made: ForwardPass, moved_on: bool, staleness: int
    ) -> tuple[bytes, bytes]:
        self._speed = np.asarray(MOMENTUM * self._speed + gradient, "<f4")
        self._slope = np.asarray(self._slope - RATE * self._speed, "<f4")
        return self._slope.tobytes(), self._speed.tobytes()
