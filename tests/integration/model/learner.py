"""A model in numpy whose bits depend on the order of its steps, and a program that trains it.

    python -m tests.integration.model.learner --run NAME --redis-url URL --die "apply 3"

The component is `echo` of `tests.integration.echo`: a request is a batch, its reply the outputs,
and a gradient of the outputs is answered by that of the inputs, after a step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from roomgrad import Component, Context, Message, RuntimeSettings, backprop, main, on
from roomgrad.models import Arrays, ForwardPass
from roomgrad.runtime.model import snapshotter, writer
from roomgrad.settings import settings
from roomgrad.snapshots import pieces
from tests.death import Death, countdown
from tests.integration.echo import ECHO, FORWARD, GRADIENT, INPUT, OUTPUT

RATE, MOMENTUM = np.float32(0.01), np.float32(0.9)
BATCH = 4

Vector = NDArray[np.float32]


@settings
class LearnerSettings(RuntimeSettings):
    """What a test of the model changes."""

    size: Annotated[int, Field(ge=BATCH)] = BATCH
    """How many weights the model has."""

    die: str = ""
    """Where the process kills itself, and at which time it comes there, like `apply 3`."""

    rate: float = float(RATE)
    """The learning rate; another one in place of a machine that computes other bits."""

    log_bytes: int = 16 * 1024 * 1024
    """How many bytes of records make a snapshot due, at least."""

    again_s: float = 1.0
    """How often a replica looks whether a snapshot is due."""

    retry_s: float = 10.0
    """When a snapshot that could not be written is tried again."""

    snapshot_lease_s: float = 120.0
    """How long the lease of a snapshotter lasts."""

    durable_s: float = 30.0
    """When a snapshot counts as durable."""

    piece_bytes: int = pieces.PIECE_BYTES
    """How large a piece of a snapshot is at most."""


@dataclass(frozen=True)
class Step:
    """A gradient as `Update`."""

    gradient: Vector
    staleness: int

    @property
    def nbytes(self) -> int:
        return self.gradient.nbytes


class Squares:
    """`Trainable`: y = w w x, by gradient descent with momentum. w begins with ones."""

    accumulate = 1
    graphs_bytes = 0

    def __init__(self, size: int = BATCH, die: str = "", rate: float = float(RATE)) -> None:
        self._rate = np.float32(rate)
        self.weight = np.ones(size, "<f4")
        self.speed = np.zeros(size, "<f4")
        self.computed = 0
        self._death = Death(countdown(die))

    def drop(self, key: str) -> None:
        """Do nothing: it holds no graphs."""

    def fingerprint(self) -> str:
        return hashlib.sha256(self.weight.tobytes()).hexdigest()

    def dump(self) -> memoryview:
        return memoryview(bytearray(self.weight.tobytes() + self.speed.tobytes()))

    def load(self, content: bytes | bytearray | memoryview) -> None:
        both = np.frombuffer(content, "<f4").copy()
        self.weight, self.speed = both[: len(both) // 2], both[len(both) // 2 :]

    def weights(self) -> Vector:
        return self.weight.copy()

    def forward(self, made: ForwardPass, key: str | None) -> Arrays:
        w = self.weight[:BATCH]
        return {"DATA": w * w * made.inputs["DATA"]}

    def backward(
        self, key: str, made: ForwardPass, upstream: Arrays, weights: Callable[[], Any]
    ) -> tuple[Vector, Arrays]:
        """No graph is kept: each gradient is computed at the weights that the runtime returns."""
        found = weights()
        self.computed += found is not None
        w = (self.weight if found is None else found)[:BATCH]
        of_weight = 2 * w * made.inputs["DATA"] * upstream["DATA"]
        return np.resize(of_weight, len(self.weight)), {"DATA": w * w * upstream["DATA"]}

    def prepare(
        self, gradient: Vector, made: ForwardPass, *, moved_on: bool, staleness: int
    ) -> Step:
        return Step(gradient, staleness)

    def apply(self, update: Step) -> None:
        self._death.at("apply")
        self.speed = MOMENTUM * self.speed + update.gradient
        self._death.at("half")
        self.weight = self.weight - self._rate * self.speed

    def encode(self, update: Step) -> dict[str, Any]:
        return {"values": update.gradient, "staleness": update.staleness}

    def decode(self, record: Mapping[str, Any]) -> Step:
        return Step(record["values"], record["staleness"])


def prepare(given: LearnerSettings) -> None:
    """Let this process have the times and the end that the settings say."""
    snapshotter.LOG_BYTES = given.log_bytes
    snapshotter.AGAIN_S, snapshotter.RETRY_S = given.again_s, given.retry_s
    snapshotter.CHEAP_S = 60.0  # as on an idle machine, so that an idle replica takes a snapshot
    snapshotter.LEASE_MS = round(given.snapshot_lease_s * 1000)
    writer.DURABLE_S = given.durable_s
    pieces.PIECE_BYTES = given.piece_bytes
    if given.die:
        Death(countdown(given.die)).in_snapshots()


def model(given: Any) -> Squares:
    prepare(given)
    return Squares(given.size, given.die, given.rate)


@on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
def forward(message: Message, context: Context) -> Message:
    return backprop.forward(message, context, OUTPUT)


@on(INPUT, GRADIENT, replies=[(OUTPUT, FORWARD)])
def learn(message: Message, context: Context) -> Message:
    asked = context.memory.pop(message.id)
    made = ForwardPass.of(asked)
    of_inputs = context.model.learn(message.id, made, {"DATA": message.array})
    return message.reply(OUTPUT, of_inputs["DATA"], type=FORWARD, id=asked["answers"])


def component() -> Component:
    return Component("echo", ECHO, LearnerSettings, [forward, learn], model=model)


if __name__ == "__main__":
    main(component())
