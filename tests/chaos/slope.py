"""The smallest model that learns: one slope per column, by gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.models import Arrays, ForwardPass
from tests.chaos.contract import WIDTH

RATE, MOMENTUM = 1e-3, 0.9

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Moved:
    """A finished gradient."""

    gradient: Vector
    staleness: int

    @property
    def nbytes(self) -> int:
        return self.gradient.nbytes


class Slope:
    """`Trainable` in numpy, so that a killed learner is back in half a second: y = x * slope."""

    accumulate = 1
    graphs_bytes = 0

    def __init__(self) -> None:
        self._slope = np.ones(WIDTH, "<f4")
        self._speed = np.zeros(WIDTH, "<f4")

    def dump(self) -> memoryview:
        return memoryview(self._slope.tobytes() + self._speed.tobytes())

    def load(self, content: bytes | bytearray | memoryview) -> None:
        self._slope, self._speed = np.frombuffer(bytes(content), "<f4").reshape(2, WIDTH).copy()

    def weights(self) -> Vector:
        return self._slope.copy()

    def drop(self, key: str) -> None:
        """Do nothing: it holds no graphs."""

    def fingerprint(self) -> str:
        return self._slope.tobytes().hex()

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        """`(batch, WIDTH)` in and out."""
        return {"DATA": np.asarray(made.inputs["DATA"] * self._slope, "<f4")}

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], Vector | None]
    ) -> tuple[Vector, Arrays]:
        """No graph is kept: every gradient is computed at the weights of its forward pass."""
        stored = weights()
        slope = self._slope if stored is None else stored
        inputs, of_outputs = made.inputs["DATA"], upstream["DATA"]
        return (inputs * of_outputs).mean(axis=0), {"DATA": np.asarray(of_outputs * slope, "<f4")}

    def prepare(
        self, gradient: Vector, made: ForwardPass, *, moved_on: bool, staleness: int
    ) -> Moved:
        return Moved(np.asarray(gradient, "<f4"), staleness)

    def apply(self, update: Moved) -> None:
        self._speed = np.asarray(MOMENTUM * self._speed + update.gradient, "<f4")
        self._slope = np.asarray(self._slope - RATE * self._speed, "<f4")

    def encode(self, update: Moved) -> dict[str, Any]:
        return {"gradient": update.gradient, "staleness": update.staleness}

    def decode(self, record: Mapping[str, Any]) -> Moved:
        return Moved(record["gradient"], record["staleness"])
