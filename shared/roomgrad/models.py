"""Versioned model state in Redis: loaded when it changed, stepped by the same commit as the reply.

Nothing here knows torch; `roomgrad.learning` has the model for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from roomgrad.messages import new_id

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class ModelState:
    """One version of a model: its weights and its optimizer's state as safetensors bytes."""

    version: str
    step: int
    weights: bytes
    optimizer: bytes

    def after(self, step: int, weights: bytes, optimizer: bytes) -> ModelState:
        """The next version. Its token is unique: a server may roll back to an older step 57."""
        return ModelState(f"{step}-{new_id()[:12]}", step, weights, optimizer)

    def staleness(self, made_by: str) -> int:
        """How many steps were taken since the version that made a forward; 0 if that is not known.

        Never below 0: a server that fell back may have taken the later steps back.
        """
        step = made_by.partition("-")[0]
        return max(0, self.step - int(step)) if step.isdecimal() else 0


class Trainable(Protocol):
    """A model that the runtime can keep in Redis. `Gradient` is opaque to the runtime."""

    def initial(self) -> tuple[bytes, bytes]:
        """Weights and optimizer state before the first step: a pure function of the settings."""

    def load(self, state: ModelState) -> None:
        """Takes over a state that another replica, or an earlier process, committed."""

    def forward(self, inputs: NDArray[Any], version: str, key: str | None) -> NDArray[Any]:
        """Outputs at the loaded weights; with a key the graph is kept for `backward`."""

    def backward(
        self, key: str, version: str, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Any, NDArray[Any]] | None:
        """(parameter gradient, input gradient) by the kept graph, or None where there is none."""

    def recompute(
        self, weights: bytes, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Any, NDArray[Any]]:
        """The same at other weights than those loaded."""

    def step(self, gradient: Any, staleness: int = 0) -> tuple[bytes, bytes]:
        """Applies a parameter gradient to the loaded weights; answers weights, optimizer state.

        staleness: how many steps older the weights are that the gradient was computed at.
        """


class Model:
    """The model as a handler sees it: forward, backward, step.

    The version is read after the message, never before; what it was is a guard of the commit.
    """

    def __init__(
        self,
        trainable: Trainable,
        version: str,
        load: Callable[[], ModelState],
        kept: Callable[[str], bytes | None],
        training: bool = True,
    ) -> None:
        self._trainable = trainable
        self._load = load
        self._kept = kept
        self._version = version
        self._training = training
        self._state: ModelState | None = None
        self.used = False
        self.gradient: Any = None
        self.made_by = ""  # the version of the weights that the gradient was computed at

    @property
    def version(self) -> str:
        """The token of the weights that `forward` uses, for `memory.put(..., weights=)`."""
        return self.refresh().version

    def forward(self, inputs: NDArray[Any], key: str | None = None) -> NDArray[Any]:
        """Outputs for `inputs`, `(batch, ...)`. `key`: the ID under which a gradient will come."""
        self.refresh()
        return self._trainable.forward(inputs, self._version, key if self._training else None)

    def backward(
        self, key: str, weights: str, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Any, NDArray[Any]]:
        """(parameter gradient, input gradient), both at the weights that made the forward.

        The forward's graph is used when this process made it, and made again otherwise.
        """
        found = self._trainable.backward(key, weights, inputs, upstream)
        if found is not None:
            return found
        state = self.refresh()
        kept = state.weights if weights == self._version else self._kept(weights)
        if kept is None:
            raise LookupError(f"the weights {weights} of an open root are not kept any more")
        return self._trainable.recompute(kept, inputs, upstream)

    def step(self, gradient: Any, made_by: str = "") -> None:
        """Stages one optimizer step with a parameter gradient; a VALIDATE message stages none.

        made_by: the version of the weights that made the forward, by which staleness is known.
        """
        if not self._training:
            return
        self.used = True
        self.gradient, self.made_by = gradient, made_by

    def refresh(self) -> ModelState:
        """The loaded state at the version that this call sees, which is one and the same."""
        self.used = True
        if self._state is None:
            self._state = self._load()
            self._version = self._state.version
        return self._state
