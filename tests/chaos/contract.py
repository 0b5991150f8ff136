"""The system that is broken on purpose: numbers go out, are learned from, labelled, and come home.

    opener -FORWARD-> work - learner -FORWARD-> deed - labeller
    opener <-GRADIENT- work - learner <-GRADIENT- deed - labeller

Of each number there are three effects, and each has to happen once: a label, an optimizer step, a
generation. That is four messages a number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from roomgrad import Array, MessageType, Room, Stream, System

OPENER, LEARNER, LABELLER = "opener", "learner", "labeller"
COMPONENTS = (OPENER, LEARNER, LABELLER)
MESSAGES_PER_NUMBER = 4
EFFECTS = ("labels", "steps", "generations")

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


def batch(number: int) -> NDArray[np.float32]:
    """Return the inputs `(batch, WIDTH)` of a number."""
    rows = LARGE_ROWS if number % LARGE_EVERY == 0 else 2
    return np.random.default_rng(number).standard_normal((rows, WIDTH)).astype("<f4")
