"""The checks of a component, in order; each returns what it found, or raises CheckFailed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.dtypes import name_of
from roomgrad.errors import CheckFailed
from roomgrad.messages import new_id
from roomgrad.ops.check.differences import Slope, slope
from roomgrad.ops.check.probe import Probe
from roomgrad.ops.check.settings import CheckSettings
from roomgrad.ops.check.streams import data_schema
from roomgrad.rooms import ModelStatus

Floats = NDArray[np.floating[Any]]

BATCH = 4
OTHER_LENGTH = 5  # of other axes whose length the contract leaves open
TRIES = 4  # inputs per direction, if the function is not smooth at the first ones
SILENCE_S = 0.5  # how long a second answer must not come


@dataclass(frozen=True)
class CheckResult:
    """One check and its outcome."""

    name: str
    passed: bool
    said: str


@dataclass
class Checks:
    """The checks of one component; each may rely on those before.

    rows: inputs to draw from; random ones if None.
    """

    probe: Probe
    settings: CheckSettings
    rows: Floats | None = None
    random: np.random.Generator = field(init=False)
    _ratio: float = float("nan")

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.settings.seed)

    def all(self) -> Iterator[CheckResult]:
        """Yield the result of each check; stop if a check fails that all others rely on."""
        for name, check, vital in (
            ("answers a forward message", self.answers, True),
            ("VALIDATE leaves nothing behind", self.validates, False),
            ("answers the same twice", self.repeats, False),
            ("returns a gradient", self.returns, True),
            ("gradient is the vector-Jacobian product", self.differentiates, False),
            ("a gradient that comes twice counts once", self.counts_once, False),
            ("an unknown gradient is ignored", self.ignores_unknown, False),
            ("a wrong shape becomes a dead letter", self.survives, False),
            ("remembers nothing at the end", self.forgets, False),
        ):
            try:
                yield CheckResult(name, True, check())
            except CheckFailed as error:
                yield CheckResult(name, False, str(error))
                if vital:
                    return

    # inputs

    def inputs(self) -> Floats:
        """Return a batch of inputs: rows of the file, or random numbers within the contract."""
        schema = data_schema(self.probe.streams.inputs)
        if self.rows is not None:
            return self.rows[self.random.integers(0, len(self.rows), BATCH)].astype(schema.dtype)
        shape = [
            length if isinstance(length, int) else (OTHER_LENGTH if axis else BATCH)
            for axis, length in enumerate(schema.shape)
        ]
        low, high = schema.low, schema.high
        if low is not None and high is not None:
            middle, half = (low + high) / 2, (high - low) / 4
            return self.random.uniform(middle - half, middle + half, shape).astype(schema.dtype)
        return self.random.normal(size=shape).astype(schema.dtype)

    def direction(self, x: Floats) -> Floats:
        """Return random numbers of the shape of x, each row of length 1 in units of its scale."""
        drawn = self.random.normal(size=x.shape)
        axes = tuple(range(1, drawn.ndim))
        length = np.sqrt(np.sum(drawn**2, axis=axes, keepdims=True)) if axes else 1.0
        scale = 1.0 if self.rows is None else np.maximum(self.rows.std(axis=0), 1e-6)
        return np.asarray(drawn / length * scale)

    def cotangent(self, outputs: Floats) -> Floats:
        """Return a random gradient of outputs."""
        dtype = data_schema(self.probe.streams.upstream).dtype
        return self.random.normal(size=outputs.shape).astype(dtype)

    # checks

    def answers(self) -> str:
        """Expect a reply of the same root, with an ID of its own, that keeps the contract."""
        request, reply = self.probe.forward(self.inputs(), ModelStatus.VALIDATE)
        if reply.id == request.id:
            raise CheckFailed(f"a reply has an ID of its own, got that of the request: {reply.id}")
        return f"{_shape(request.array)} in, {_shape(reply.array)} out"

    def validates(self) -> str:
        """Expect that VALIDATE leaves no record in memory and no step of the model."""
        before = self.probe.model()
        self.probe.forward(self.inputs(), ModelStatus.VALIDATE)
        if self.probe.remembered():
            raise CheckFailed("it remembers a VALIDATE message, whose gradient will never come")
        if self.probe.model() != before:
            raise CheckFailed(f"its model changed from {before[0]} to {self.probe.model()[0]}")
        return "no memory, no step"

    def repeats(self) -> str:
        """Expect equal outputs for equal inputs: finite differences would measure noise."""
        x = self.inputs()
        one, other = self.probe.values(x), self.probe.values(x)
        if not np.allclose(one, other, rtol=1e-6, atol=1e-9):
            worst = float(np.max(np.abs(one - other)))
            raise CheckFailed(f"the same input twice gave outputs that differ by {worst:.3g}")
        return "exactly" if np.array_equal(one, other) else "but for rounding"

    def returns(self) -> str:
        """Expect a gradient of the request, and one step of the model, if it has one."""
        request, reply = self.probe.forward(self.inputs(), ModelStatus.TRAIN)
        version, step = self.probe.model()
        found = self.probe.gradient(request, reply, self.cotangent(reply.array))
        if found.array.shape != request.array.shape:
            raise CheckFailed(
                f"DATA: expected the shape of the input {request.array.shape}, got "
                f"{found.array.shape}"
            )
        if not version:
            return _shape(found.array)
        now, after = self.probe.model()
        if after != step + 1 or now == version:
            raise CheckFailed(
                f"expected one step of its model, from {step} to {step + 1}, got {after}"
            )
        return f"{_shape(found.array)}, and one step of its model"

    def differentiates(self) -> str:
        """Compare with central differences along random directions, at the forward's weights."""
        worst, kinks = 0.0, 0
        for _ in range(self.settings.count):
            error, rejected = self._error_along_direction()
            worst, kinks = max(worst, error), kinks + rejected
        if worst > self.settings.tolerance:
            raise CheckFailed(
                f"it differs from finite differences by {worst:.2%} of their size, allowed are "
                f"{self.settings.tolerance:.2%}{self._hint()}"
            )
        rough = f"; {kinks} inputs at kinks were left out" if kinks else ""
        return f"{self.settings.count} directions, largest error {worst:.2%}{rough}"

    def _error_along_direction(self) -> tuple[float, int]:
        """Return the relative error, and how many inputs were rejected before."""
        for rejected in range(TRIES):
            weights = self.probe.model()
            x = self.inputs()
            v = self.direction(x)
            u = self.cotangent(self.probe.values(x)).astype("<f8")
            expected = slope(self.probe.values, x, v, u)
            request, reply = self.probe.forward(x, ModelStatus.TRAIN)
            moved = self.probe.model() != weights  # others may train it, in a run that is named
            upstream = u.astype(data_schema(self.probe.streams.upstream).dtype)
            found = self.probe.gradient(request, reply, upstream)
            if expected.smooth and not moved:
                return self._error(expected, found.array, v), rejected
        raise CheckFailed(
            f"no derivative was found at {TRIES} inputs: differences of several widths disagree, "
            f"so the function jumps, rounds or is noisy there, or others train it meanwhile; give "
            f"it better inputs by --probes, or a run of its own"
        )

    def _error(self, expected: Slope, returned: Floats, v: Floats) -> float:
        """Return the error of the product, relative to the larger of the two."""
        product = float(np.sum(returned.astype("<f8") * v))
        if expected.flat and np.any(returned):
            raise CheckFailed(
                "its outputs do not change when inputs change a little, but it returns a gradient: "
                "does it round its inputs? Then finite differences cannot check that gradient"
            )
        self._ratio = product / expected.value if expected.value else float("nan")
        size = max(abs(expected.value), abs(product), 1e-9)
        return max(0.0, abs(product - expected.value) - expected.error) / size

    def _hint(self) -> str:
        if np.isclose(self._ratio, -1, rtol=0.05):
            return ": its sign is wrong"
        if np.isfinite(self._ratio) and abs(self._ratio) > 1e-6:
            return f": in the last direction it was {self._ratio:.3g} times what it should be"
        return ""

    def counts_once(self) -> str:
        """Expect no second answer and no second step, as streams may deliver twice."""
        request, reply = self.probe.forward(self.inputs(), ModelStatus.TRAIN)
        upstream = self.cotangent(reply.array)
        self.probe.gradient(request, reply, upstream)
        step = self.probe.model()[1]
        after = self.probe.newest(self.probe.streams.returned)
        self.probe.send_gradient(reply, upstream)
        if not self.probe.is_silent(self.probe.streams.returned, after, request.root_id, SILENCE_S):
            raise CheckFailed("it answered the same gradient a second time")
        if self.probe.model()[1] != step:
            raise CheckFailed("its model took a second step from the same gradient")
        return "the second one changed nothing"

    def ignores_unknown(self) -> str:
        """Expect no answer to the gradient of a message that the component never sent."""
        _, reply = self.probe.forward(self.inputs(), ModelStatus.VALIDATE)
        reply.id, reply.root_id = new_id(), new_id()
        after, step = self.probe.newest(self.probe.streams.returned), self.probe.model()[1]
        self.probe.send_gradient(reply, self.cotangent(reply.array))
        if not self.probe.is_silent(self.probe.streams.returned, after, reply.root_id, SILENCE_S):
            raise CheckFailed("it answered the gradient of a message that it never sent")
        if self.probe.model()[1] != step:
            raise CheckFailed(
                "its model took a step from the gradient of a message that it never sent"
            )
        self.answers()
        return "no answer, no step"

    def survives(self) -> str:
        """Expect that a message which breaks the contract becomes a dead letter."""
        before = self.probe.dead()
        self.probe.inject(self.probe.streams.inputs, new_id(), DATA=[[[[[1.0]]]]])
        self.answers()
        if self.probe.dead() <= before:
            raise CheckFailed(
                "a message of a wrong shape did not become a dead letter: expected an entry in "
                f"{self.probe.names.dead()}"
            )
        return "a dead letter, and the next message is answered"

    def forgets(self) -> str:
        """Expect no record in memory, as every root is finished."""
        if left := self.probe.remembered():
            raise CheckFailed(
                f"{left} records of these checks are left in "
                f"{self.probe.names.memory(self.probe.component)}"
            )
        return "its memory is empty"


def _shape(array: Floats) -> str:
    return f"{name_of(array.dtype)} {array.shape}"
