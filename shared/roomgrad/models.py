"""Versioned model state in Redis: loaded when it has changed, stepped by the commit of the reply.

This module does not know torch; `roomgrad.learning` has the model for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from roomgrad.messages import new_id
from roomgrad.reprs import short_repr

Float32 = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class ModelState:
    """One version of a model: its weights and its optimizer's state as safetensors bytes."""

    version: str
    step: int
    weights: bytes
    optimizer: bytes

    __repr__ = short_repr

    def after(self, step: int, weights: bytes, optimizer: bytes) -> ModelState:
        """Return the next version. Its token is unique: a server may fall back to an older step."""
        return ModelState(f"{step}-{new_id()[:12]}", step, weights, optimizer)

    def staleness(self, made_by: str) -> int:
        """Return how many steps were taken since the version of a forward; 0 if unknown.

        Never below 0: a server that fell back may have lost the later steps.
        """
        step = made_by.partition("-")[0]
        return max(0, self.step - int(step)) if step.isdecimal() else 0


class Trainable(Protocol):
    """A model whose state the runtime stores in Redis. `Gradient` is opaque to the runtime."""

    def initial(self) -> tuple[bytes, bytes]:
        """Return weights and optimizer state before the first step, a function of the settings."""

    def load(self, state: ModelState) -> None:
        """Load a state that another replica, or an earlier process, committed."""

    def forward(self, inputs: NDArray[Any], version: str, key: str | None) -> NDArray[Any]:
        """Return outputs at the loaded weights; with a key the graph is kept for `backward`."""

    def backward(
        self, key: str, version: str, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Any, NDArray[Any]] | None:
        """Return (parameter gradient, input gradient) by the kept graph, or None without one."""

    def recompute(
        self, weights: bytes, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Any, NDArray[Any]]:
        """Return the same gradients at other weights than those loaded."""

    def step(self, gradient: Any, staleness: int = 0) -> tuple[bytes, bytes]:
        """Apply a parameter gradient to the loaded weights; return weights, optimizer state.

        staleness: how many steps older the weights are that the gradient was computed at.
        """


class Model:
    """The model as a handler sees it: forward, backward, step.

    The version is read after the message, never before; it is a guard of the commit.
    """

    def __init__(
        self,
        trainable: Trainable,
        version: str,
        load: Callable[[], ModelState],
        fetch_weights: Callable[[str], bytes | None],
        training: bool = True,
    ) -> None:
        self._trainable = trainable
        self._load = load
        self._fetch_weights = fetch_weights
        self._version = version
        self._training = training
        self._state: ModelState | None = None
        self.used = False
        self.gradient: Any = None
        self.made_by = ""  # the version of the weights of its forward pass

    @property
    def version(self) -> str:
        """The token of the weights that `forward` uses, for `memory.put(..., weights=)`."""
        return self.refresh().version

    def forward(self, inputs: NDArray[Any], key: str | None = None) -> NDArray[Any]:
        """Return outputs for `inputs`, `(batch, ...)`. `key`: the ID of the coming gradient."""
        self.refresh()
        return self._trainable.forward(inputs, self._version, key if self._training else None)

    def backward(
        self, key: str, weights: str, inputs: NDArray[Any], upstream: NDArray[Any]
    ) -> tuple[Any, NDArray[Any]]:
        """Return (parameter gradient, input gradient), both at the weights of the forward pass.

        The graph of the forward pass is used if this process made it, and computed again otherwise.
        """
        found = self._trainable.backward(key, weights, inputs, upstream)
        if found is not None:
            return found
        state = self.refresh()
        kept = state.weights if weights == self._version else self._fetch_weights(weights)
        if kept is None:
            raise LookupError(f"the weights {weights} of an open root are no longer stored")
        return self._trainable.recompute(kept, inputs, upstream)

    def step(self, gradient: Any, made_by: str = "") -> None:
        """Stage one optimizer step with a parameter gradient; a VALIDATE message stages none.

        made_by: the version of the weights of the forward pass, which tells the staleness.
        """
        if not self._training:
            return
        self.used = True
        self.gradient, self.made_by = gradient, made_by

    def refresh(self) -> ModelState:
        """Return the state of this call; every use of it sees the same version."""
        self.used = True
        if self._state is None:
            self._state = self._load()
            self._version = self._state.version
        return self._state
