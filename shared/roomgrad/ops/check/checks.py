"""What is checked, one after the other; each says what it found, or raises Failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad.messages import new_id
from roomgrad.ops.check import rooms
from roomgrad.ops.check.differences import Slope, slope
from roomgrad.ops.check.probe import Failed, Probe
from roomgrad.ops.check.settings import Asked
from roomgrad.rooms import ModelStatus

Floats = NDArray[np.floating[Any]]

BATCH = 4
OTHER = 5  # of any other length that the contract leaves open
TRIES = 4  # inputs that are tried where the function is not smooth, for each direction
QUIET_S = 0.5  # for so long nothing may come


@dataclass(frozen=True)
class Found:
    """One check and its outcome."""

    name: str
    passed: bool
    said: str


@dataclass
class Checks:
    """The checks of one component, in an order in which each may rely on those before."""

    probe: Probe
    asked: Asked
    rows: Floats | None = None
    """Inputs to draw from."""

    random: np.random.Generator = field(init=False)
    _ratio: float = float("nan")

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.asked.seed)

    def all(self) -> Iterator[Found]:
        """Each check when it is done; the first that fails may make others senseless."""
        for name, check, vital in (
            ("answers a forward message", self.answers, True),
            ("VALIDATE leaves nothing behind", self.validates, False),
            ("answers the same twice", self.repeats, False),
            ("returns a gradient", self.returns, True),
            ("gradient is the vector-Jacobian product", self.differentiates, False),
            ("a gradient that comes twice counts once", self.counts_once, False),
            ("an unknown gradient is nobody's", self.ignores_strangers, False),
            ("a wrong shape is given up, and it lives on", self.survives, False),
            ("remembers nothing at the end", self.forgets, False),
        ):
            found = _outcome(name, check)
            yield found
            if vital and not found.passed:
                return

    # inputs

    def inputs(self) -> Floats:
        """A batch of inputs: of the file, or as the contract allows."""
        schema = rooms.array(self.probe.rooms.asked)
        if self.rows is not None:
            return self.rows[self.random.integers(0, len(self.rows), BATCH)].astype(schema.dtype)
        shape = [
            each if isinstance(each, int) else (OTHER if at else BATCH)
            for at, each in enumerate(schema.shape)
        ]
        low, high = schema.low, schema.high
        if low is not None and high is not None:
            middle, half = (low + high) / 2, (high - low) / 4
            return self.random.uniform(middle - half, middle + half, shape).astype(schema.dtype)
        return self.random.normal(size=shape).astype(schema.dtype)

    def like(self, array: Floats) -> Floats:
        """Random numbers of the same shape, each row of length 1."""
        drawn = self.random.normal(size=array.shape)
        axes = tuple(range(1, drawn.ndim))
        length = np.sqrt(np.sum(drawn**2, axis=axes, keepdims=True)) if axes else 1.0
        return np.asarray(drawn / length)

    # the checks

    def answers(self) -> str:
        """A reply of the same root, with an ID of its own, that keeps the contract."""
        asked, answer = self.probe.forward(self.inputs(), ModelStatus.VALIDATE)
        if answer.id == asked.id:
            raise Failed(f"an answer has an ID of its own, got that of what was asked: {asked.id}")
        return f"{_shape(asked.array)} in, {_shape(answer.array)} out"

    def validates(self) -> str:
        """No memory, no step."""
        before = self.probe.model()
        self.probe.forward(self.inputs(), ModelStatus.VALIDATE)
        if self.probe.remembered():
            raise Failed("it remembers a VALIDATE message, whose gradient will never come")
        if self.probe.model() != before:
            raise Failed(f"its model changed from {before[0]} to {self.probe.model()[0]}")
        return "no memory, no step"

    def repeats(self) -> str:
        """Otherwise differences would measure noise."""
        x = self.inputs()
        one, other = self.probe.values(x), self.probe.values(x)
        if not np.allclose(one, other, rtol=1e-6, atol=1e-9):
            worst = float(np.max(np.abs(one - other)))
            raise Failed(f"the same input twice gave outputs that differ by {worst:.3g}")
        return "exactly" if np.array_equal(one, other) else "but for rounding"

    def returns(self) -> str:
        """Of the ID that was asked, of the shape of the input; and one step, if it learns."""
        asked, answer = self.probe.forward(self.inputs(), ModelStatus.TRAIN)
        version, step = self.probe.model()
        found = self.probe.gradient(asked, answer, self._upstream(answer.array))
        if found.array.shape != asked.array.shape:
            raise Failed(
                f"DATA: expected the shape of the input {asked.array.shape}, got "
                f"{found.array.shape}"
            )
        if not version:
            return _shape(found.array)
        now, after = self.probe.model()
        if after != step + 1 or now == version:
            raise Failed(f"expected one step of its model, from {step} to {step + 1}, got {after}")
        return f"{_shape(found.array)}, and one step of its model"

    def differentiates(self) -> str:
        """Against central differences, along random directions, at the weights of the forward."""
        worst, kinks = 0.0, 0
        for _ in range(self.asked.count):
            error, tried = self._direction()
            worst, kinks = max(worst, error), kinks + tried
        if worst > self.asked.tolerance:
            raise Failed(
                f"it differs from finite differences by {worst:.2%} of their size, allowed are "
                f"{self.asked.tolerance:.2%}{self._hint()}"
            )
        rough = f"; {kinks} inputs at kinks were left out" if kinks else ""
        return f"{self.asked.count} directions, largest error {worst:.2%}{rough}"

    def _direction(self) -> tuple[float, int]:
        """The relative error along one direction, and how many inputs were no good."""
        for tried in range(TRIES):
            weights = self.probe.model()
            x = self.inputs()
            v = self.like(x) * self._scale(x)
            u = self._upstream(self.probe.values(x)).astype("<f8")
            expected = slope(self.probe.values, x, v, u)
            asked, answer = self.probe.forward(x, ModelStatus.TRAIN)
            moved = self.probe.model() != weights  # others teach it, in a run that is named
            upstream = u.astype(rooms.array(self.probe.rooms.upstream).dtype)
            found = self.probe.gradient(asked, answer, upstream)
            if moved or not expected.smooth:
                continue
            return self._error(expected, found.array, v), tried
        raise Failed(
            f"no derivative was found at {TRIES} inputs: differences of other widths disagree, so "
            f"the function jumps, rounds or is noisy there, or others teach it meanwhile; give it "
            f"better inputs by --probes, or a run of its own"
        )

    def _error(self, expected: Slope, returned: Floats, v: Floats) -> float:
        """How far the product with what came back is off, relative to the larger of the two."""
        product = float(np.sum(returned.astype("<f8") * v))
        if expected.flat and np.any(returned):
            raise Failed(
                "its outputs stay exactly what they are when inputs move a little, and yet it "
                "answers a gradient: does it round its inputs? Then no difference can tell whether "
                "that gradient is the one that is meant"
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
        """Streams may deliver twice."""
        asked, answer = self.probe.forward(self.inputs(), ModelStatus.TRAIN)
        upstream = self._upstream(answer.array)
        self.probe.gradient(asked, answer, upstream)
        step = self.probe.model()[1]
        after = self.probe.newest(self.probe.rooms.returned)
        self.probe.send_gradient(answer, upstream)
        if not self.probe.silent(self.probe.rooms.returned, after, asked.root_id, QUIET_S):
            raise Failed("it answered the same gradient a second time")
        if self.probe.model()[1] != step:
            raise Failed("its model took a second step from the same gradient")
        return "the second one changed nothing"

    def ignores_strangers(self) -> str:
        """The gradient of something that it never answered."""
        _, answer = self.probe.forward(self.inputs(), ModelStatus.VALIDATE)
        answer.id, answer.root_id = new_id(), new_id()
        after, step = self.probe.newest(self.probe.rooms.returned), self.probe.model()[1]
        self.probe.send_gradient(answer, self._upstream(answer.array))
        if not self.probe.silent(self.probe.rooms.returned, after, answer.root_id, QUIET_S):
            raise Failed("it answered the gradient of a message that it never sent")
        if self.probe.model()[1] != step:
            raise Failed("its model took a step from the gradient of a message that it never sent")
        self.answers()
        return "no answer, no step"

    def survives(self) -> str:
        """What does not keep the contract goes to the dead letters."""
        before, root = self.probe.dead(), new_id()
        self.probe.inject(self.probe.rooms.asked, root, DATA=[[[[[1.0]]]]])
        self.answers()
        if self.probe.dead() <= before:
            raise Failed(
                "a message of a wrong shape did not become a dead letter: expected an entry in "
                f"{self.probe.names.dead()}"
            )
        return "a dead letter, and the next message is answered"

    def forgets(self) -> str:
        """Every root is finished by now."""
        left = self.probe.remembered()
        if left:
            raise Failed(
                f"{left} records of what was asked here are left in "
                f"{self.probe.names.memory(self.probe.component)}"
            )
        return "its memory is empty"

    # numbers

    def _upstream(self, outputs: Floats) -> Floats:
        dtype = rooms.array(self.probe.rooms.upstream).dtype
        return self.random.normal(size=outputs.shape).astype(dtype)

    def _scale(self, x: Floats) -> Floats:
        """How large inputs are: of each column over the file, or 1."""
        if self.rows is None:
            return np.ones(x.shape[1:])
        return np.asarray(np.maximum(self.rows.std(axis=0), 1e-6))


def _outcome(name: str, check: Callable[[], str]) -> Found:
    try:
        return Found(name, True, check())
    except Failed as error:
        return Found(name, False, str(error))


def _shape(array: Floats) -> str:
    return f"{array.dtype.str} {array.shape}"
