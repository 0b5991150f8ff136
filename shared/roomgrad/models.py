"""Versioned model state in Redis: loaded when it has changed, stepped by the commit of the reply.

This module does not know torch; `roomgrad.learning` has the model for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from roomgrad.messages import new_id
from roomgrad.reprs import short_repr

Arrays = Mapping[str, NDArray[Any]]
"""Named arrays of a message: DATA, or those that its schema names."""


def forward_seed(run_seed: int, component: str, key: int | str) -> int:
    """Return the seed of a forward pass: torch's generators begin with it, so that dropout repeats.

    run_seed: the setting `seed` of the component.
    key: SEED of the root, or else the ID of the message that came in.

    One process that calls `torch.manual_seed` with it before each forward pass draws the same.
    """
    text = f"{run_seed}/{component}/{key}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


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

    def staleness(self, made_by: str, accumulate: int = 1) -> int:
        """Return how often the weights changed since the version of a forward; 0 if unknown.

        Never below 0: a server that fell back may have lost the later steps.
        """
        step = made_by.partition("-")[0]
        if not step.isdecimal():
            return 0
        return max(0, self.step // accumulate - int(step) // accumulate)


@dataclass(frozen=True, repr=False)
class ForwardPass:
    """All that a forward pass is a function of, so that any replica can compute it again."""

    inputs: Arrays
    seed: int
    version: str
    """The token of the weights and buffers."""

    __repr__ = short_repr

    def record(self) -> dict[str, Any]:
        """Return it as fields of a memory record; the record keeps those weights."""
        arrays = {_FIELDS.get(name, name): array for name, array in self.inputs.items()}
        return {"weights": self.version, "seed": self.seed, "inputs": list(arrays), **arrays}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> ForwardPass:
        """Return the forward pass of a memory record."""
        names = {field: name for name, field in _FIELDS.items()}
        fields = record.get("inputs", ["data"])  # an older release had one input, and no seed
        inputs = {names.get(field, field): record[field] for field in fields}
        return cls(inputs, record.get("seed", 0), record["weights"])


_FIELDS = {"DATA": "data"}  # inputs whose name in a memory record is another


class Trainable(Protocol):
    """A model whose state the runtime stores in Redis. `Gradient` is opaque to the runtime."""

    accumulate: int
    """So many gradients make one update of the weights."""

    def initial(self) -> tuple[bytes, bytes]:
        """Return weights and optimizer state before the first step, a function of the settings."""

    def load(self, state: ModelState) -> None:
        """Load a state that another replica, or an earlier process, committed."""

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        """Return outputs at the loaded weights; with a key the graph is kept for `backward`.

        Without a key it is an evaluation: nothing is drawn, and nothing changes.
        """

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], bytes | None]
    ) -> tuple[Any, Arrays]:
        """Return (parameter gradient, input gradients) at the weights of a forward pass.

        upstream: gradients of the outputs; a missing one counts as zero.
        weights: returns those of the forward pass, or None if they are the loaded ones; called if
            the graph is not here.
        """

    def step(
        self, gradient: Any, made: ForwardPass, moved_on: bool, staleness: int
    ) -> tuple[bytes, bytes]:
        """Apply a parameter gradient to the loaded weights; return weights, optimizer state.

        moved_on: whether the loaded state is no longer that of the forward pass.
        staleness: how many updates older the weights are that the gradient was computed at.
        """


class Model:
    """The model as a handler sees it: `forward`, and `learn` when the gradient comes.

    The version is read after the message, never before; it is a guard of the commit.
    """

    def __init__(
        self,
        trainable: Trainable,
        version: str,
        load: Callable[[], ModelState],
        fetch_weights: Callable[[str], bytes | None],
        *,
        seed: int = 0,
        training: bool = True,
    ) -> None:
        self._trainable = trainable
        self._load = load
        self._fetch_weights = fetch_weights
        self._version = version
        self._seed = seed
        self._training = training
        self._state: ModelState | None = None
        self.used = False
        self.gradient: Any = None
        self._forward_pass: ForwardPass | None = None

    @property
    def version(self) -> str:
        """The token of the weights that `forward` uses."""
        return self.refresh().version

    @property
    def forward_pass(self) -> ForwardPass:
        """The last forward pass, or the one whose gradient was learned, for `memory.put`."""
        assert self._forward_pass is not None, "forward was not called"
        return self._forward_pass

    def forward(self, inputs: Arrays, key: str | None = None) -> Arrays:
        """Return outputs by name for batches `(batch, ...)` by name, in evaluation mode.

        key: the ID of the coming gradient. With it a TRAIN message is computed in training mode,
            and `forward_pass` is to be stored until `learn`.
        """
        made = self._forward_pass = ForwardPass(inputs, self._seed, self.version)
        return self._trainable.forward(made, key if self._training else None)

    def learn(self, key: str, made: ForwardPass, upstream: Arrays) -> Arrays:
        """Return gradients of the inputs, at the weights of the forward pass; stage one step.

        The graph of the forward pass is used if this process made it, and computed again otherwise.
        A VALIDATE message stages no step.

        upstream: gradients of the outputs by name; a missing one counts as zero.
        """

        def weights() -> bytes | None:
            return self._weights_of(made)

        gradient, of_inputs = self._trainable.backward(key, made, upstream, weights)
        if self._training:
            self.step(gradient, made)
        return of_inputs

    def _weights_of(self, made: ForwardPass) -> bytes | None:
        if made.version == self.version:
            return None
        kept = self._fetch_weights(made.version)
        if kept is None:
            raise LookupError(f"the weights {made.version} of an open root are no longer stored")
        return kept

    def step(self, gradient: Any, made: ForwardPass) -> None:
        """Stage a step with a parameter gradient of a forward pass."""
        self.used = True
        self.gradient, self._forward_pass = gradient, made

    def refresh(self) -> ModelState:
        """Return the state of this call; every use of it sees the same version."""
        self.used = True
        if self._state is None:
            self._state = self._load()
            self._version = self._state.version
        return self._state
