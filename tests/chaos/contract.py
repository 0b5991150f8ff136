"""A system that is broken on purpose: numbers go out, are learned from, labelled, and come home.

    opener -FORWARD-> work - learner -FORWARD-> deed - labeller
    opener <-GRADIENT- work - learner <-GRADIENT- deed - labeller

Of each number there are three effects, and each has to happen once: a label, an optimizer step, a
generation. That is four messages a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roomgrad import Array, MessageType, Room, Stream, System

OPENER, LEARNER, LABELLER = "opener", "learner", "labeller"
COMPONENTS = (OPENER, LEARNER, LABELLER)

WIDTH = 4
LARGE_EVERY, LARGE_ROWS = 50, 1000  # some messages are of 16 kB
WORK, DEED = Room("work"), Room("deed")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
ROWS = {"DATA": Array("<f4", ("batch", WIDTH)), "NUMBER": Array("<i8", ())}

CHAOS = System(
    "chaos",
    (
        Stream(WORK, FORWARD, ROWS, (LEARNER,)),
        Stream(DEED, FORWARD, ROWS, (LABELLER,)),
        Stream(DEED, GRADIENT, ROWS, (LEARNER,)),
        Stream(WORK, GRADIENT, ROWS, (OPENER,)),
    ),
    COMPONENTS,
)


@dataclass(frozen=True)
class Contract:
    """A system, its programs, and the effects that each of its numbers has to have once."""

    system: System
    module: str
    """The module that runs a program: `python -m MODULE PROGRAM`."""

    programs: tuple[str, ...]
    opener: str
    effects: tuple[str, ...]
    """The logs of effects: each holds each number."""

    learners: Mapping[str, str]
    """The components that learn, and the effect of each step."""

    messages_per_number: int
    trained: tuple[str, ...] = ()
    """Effects that a number to validate does not have."""

    validate_every: int = 0
    """Which numbers are to validate; 0: none."""

    def validates(self, number: int) -> bool:
        """Return whether a number is to validate."""
        return bool(self.validate_every) and number % self.validate_every == 0

    def numbers(self, effect: str, count: int) -> list[int]:
        """Return which of so many numbers have an effect."""
        given = range(count)
        return [n for n in given if effect not in self.trained or not self.validates(n)]


CHAIN = Contract(
    CHAOS,
    "tests.chaos.components",
    COMPONENTS,
    OPENER,
    ("labels", "steps", "generations"),
    {LEARNER: "steps"},
    messages_per_number=4,
)


def batch(number: int) -> NDArray[np.float32]:
    """Return the inputs `(batch, WIDTH)` of a number."""
    rows = LARGE_ROWS if number % LARGE_EVERY == 0 else 2
    return np.random.default_rng(number).standard_normal((rows, WIDTH)).astype("<f4")
