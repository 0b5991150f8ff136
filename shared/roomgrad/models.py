"""The model of a component: what a handler asks of it, and what the runtime does.

This module does not know torch; `roomgrad.learning` has the model for it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from roomgrad.ensembles import ensembles
from roomgrad.errors import SchemaError
from roomgrad.messages import new_id
from roomgrad.reprs import short_repr
from roomgrad.rooms import ModelStatus, System

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


def initial_seed(run_seed: int, component: str, system: System) -> int:
    """Return the seed of the initial weights of a component: the setting `seed` of the run.

    Members of an ensemble begin with different weights: for `model.7` it is
    `forward_seed(run_seed, "model.7", "weights")`.
    """
    if any(component in members for members in ensembles(system.components).values()):
        return forward_seed(run_seed, component, "weights")
    return run_seed


@dataclass(frozen=True, repr=False)
class ModelState:
    """One version of a model: its whole state, as the bytes of a safetensors file."""

    version: str
    step: int
    content: bytes

    __repr__ = short_repr


def staleness(made_by: str, version: str, accumulate: int = 1) -> int:
    """Return how often the weights changed between two versions; 0 if that is unknown.

    Never below 0: a server that fell back may have lost the later steps.
    """
    made, now = made_by.partition("-")[0], version.partition("-")[0]
    if not made.isdecimal() or not now.isdecimal():
        return 0
    return max(0, int(now) // accumulate - int(made) // accumulate)


@dataclass(frozen=True, repr=False)
class ForwardPass:
    """All that a forward pass is a function of, so that any replica can compute it again."""

    inputs: Arrays
    seed: int
    version: str
    """The token of the weights and buffers."""

    trains: bool = True
    """Whether it is in training mode; a pass to differentiate is in evaluation mode."""

    __repr__ = short_repr

    def record(self) -> dict[str, Any]:
        """Return it as fields of a memory record; the record keeps those weights."""
        arrays = {_field(name): array for name, array in self.inputs.items()}
        trains = {} if self.trains else {"trains": False}
        about = {"weights": self.version, "seed": self.seed, "inputs": list(self.inputs)}
        return {**about, **trains, **arrays}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> ForwardPass:
        """Return the forward pass of a memory record."""
        names = record.get("inputs", ["DATA"])  # an older release had one input, and no seed
        inputs = {name: record[_field(name)] for name in names}
        seed, trains = record.get("seed", 0), record.get("trains", True)
        return cls(inputs, seed, record["weights"], trains)


def _field(name: str) -> str:
    """Return the field of a memory record for an input, which no other field can be."""
    return "data" if name == "DATA" else f"input {name}"


class Update(Protocol):
    """What a gradient changes in a state, finished and checked, but not applied yet."""

    @property
    def staleness(self) -> int:
        """How often the weights changed between the forward pass and this update."""

    @property
    def nbytes(self) -> int:
        """How many bytes it takes in the log."""


class Trainable(Protocol):
    """A model that the runtime trains. Gradients and weights are opaque to the runtime."""

    accumulate: int
    """So many gradients make one update of the weights."""

    graphs_bytes: int
    """How much memory graphs may hold that wait for their gradient."""

    def fingerprint(self) -> str:
        """Return a text that differs between weights of which a bit differs."""

    def dump(self) -> memoryview:
        """Return a copy of the whole state, which is valid until the next call."""

    def load(self, content: bytes | bytearray | memoryview) -> None:
        """Continue from such a copy. Raises ModelError if it is of another network."""

    def weights(self) -> Any:
        """Return a copy of weights and buffers, for gradients of their forward passes."""

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        """Return outputs at the loaded weights; with a key the graph is kept for `backward`.

        Without a key it is an evaluation: nothing is drawn, and nothing changes.
        """

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], Any]
    ) -> tuple[Any, Arrays]:
        """Return (parameter gradient, input gradients) at the weights of a forward pass.

        upstream: gradients of the outputs; a missing one counts as zero.
        weights: returns those of the forward pass, or None if they are the loaded ones; called if
            the graph is not here.
        """

    def drop(self, key: str) -> None:
        """Forget the graph of a forward pass: another replica has learned its gradient."""

    def prepare(self, gradient: Any, made: ForwardPass, *, moved_on: bool, staleness: int) -> Any:
        """Return the `Update` that a parameter gradient makes of the loaded state; change nothing.

        moved_on: whether the loaded state is no longer that of the forward pass.
        staleness: how often the weights changed since.

        Raises MessageError for a gradient that cannot be learned.
        """

    def apply(self, update: Any) -> None:
        """Change the loaded state. The same update makes the same bits of the same state."""

    def encode(self, update: Any) -> dict[str, Any]:
        """Return an update as a record: texts, numbers, lists and arrays by name."""

    def decode(self, record: Mapping[str, Any]) -> Any:
        """Return the update of a record."""


@dataclass(frozen=True)
class Learned:
    """What a handler learned: the gradient of a batch, and what it is computed from."""

    key: str
    """ID of the gradient."""

    made: ForwardPass
    upstream: Arrays
    gradient: Any
    seconds: float
    """How long the gradient took."""


@dataclass(frozen=True, repr=False)
class Replaced:
    """Another state that a handler wants in place of the model's."""

    version: str
    """Its token, which begins with the step that the model has reached."""

    content: bytes

    __repr__ = short_repr


class Model:
    """The model as a handler sees it: `forward`, and `learn` when the gradient comes.

    The version is read after the message, never before; it is a guard of the commit.
    """

    def __init__(
        self,
        trainable: Trainable,
        follow: Callable[[], str],
        weights_at: Callable[[str], Any],
        dump: Callable[[], bytes],
        *,
        seed: int = 0,
        status: ModelStatus = ModelStatus.TRAIN,
    ) -> None:
        self._trainable = trainable
        self._follow = follow
        self._weights_at = weights_at
        self._dump = dump
        self._seed = seed
        self._status = status
        self._version = ""
        self._forward_pass: ForwardPass | None = None
        self.forward_s = 0.0  # how long the last forward pass in training took
        self.learned: Learned | None = None
        self.replaced: Replaced | None = None

    @property
    def changes(self) -> bool:
        """Whether the handler changes the model."""
        return self.learned is not None or self.replaced is not None

    @property
    def used(self) -> bool:
        """Whether the handler depends on the version."""
        return bool(self._version)

    @property
    def version(self) -> str:
        """The token of the weights; every use in one call sees the same."""
        if not self._version:
            self._version = self._follow()
        return self._version

    @property
    def forward_pass(self) -> ForwardPass:
        """The last forward pass, for `memory.put(..., **forward_pass.record())`."""
        assert self._forward_pass is not None, "forward was not called"
        return self._forward_pass

    def forward(self, inputs: Arrays, key: str | None = None) -> Arrays:
        """Return outputs by name for batches `(batch, ...)` by name, in evaluation mode.

        key: the ID of the coming gradient. With it `forward_pass` is to be stored until `learn`,
            and a TRAIN message is computed in training mode.
        """
        trains = self._status is ModelStatus.TRAIN
        made = self._forward_pass = ForwardPass(inputs, self._seed, self.version, trains)
        began = time.monotonic()
        outputs = self._trainable.forward(
            made, None if self._status is ModelStatus.VALIDATE else key
        )
        if key is not None:
            self.forward_s = time.monotonic() - began
        return outputs

    def learn(self, key: str, made: ForwardPass, upstream: Arrays) -> Arrays:
        """Return gradients of the inputs, at the weights of the forward pass; stage one step.

        The graph of the forward pass is used if this process made it, and computed again otherwise.
        Only a TRAIN message stages a step.

        upstream: gradients of the outputs by name; a missing one counts as zero.
        """
        version = self.version
        began = time.monotonic()

        def weights() -> Any:
            return None if made.version == version else self._weights_at(made.version)

        gradient, of_inputs = self._trainable.backward(key, made, upstream, weights)
        if self._status is ModelStatus.TRAIN:
            self.learned = Learned(key, made, upstream, gradient, time.monotonic() - began)
        return of_inputs

    def learn_again(self, learned: Learned) -> None:
        """Stage a step with a gradient that is finished: another replica stepped first."""
        self.learned = learned
        _ = self.version

    def weights(self) -> bytes:
        """Return parameters and buffers as the bytes of a safetensors file, at `version`.

        `safetensors.numpy.load` returns its arrays by name. Needs the package safetensors.
        """
        from roomgrad import weights

        _ = self.version
        return weights.file_of(weights.only(weights.read(self._dump())))

    def replace(self, content: bytes) -> str:
        """Stage other parameters and buffers; return their version. The optimizer's state stays.

        content: the bytes of a safetensors file, as `weights` returns it.

        Raises SchemaError with the names, dtypes and shapes that do not fit the model, and
        DecodeError for other bytes.
        """
        from roomgrad import weights

        step, state = self.version.partition("-")[0], self._dump()
        given = weights.read(content)
        if reason := weights.difference(weights.only(weights.read(state)), given):
            raise SchemaError(f"the weights do not fit: {reason}")
        version = f"{step}-{new_id()[:12]}"
        self.replaced = Replaced(version, bytes(weights.replaced(state, given)))
        return version
