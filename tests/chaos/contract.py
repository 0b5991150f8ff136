"""The system that is broken on purpose: numbers go out, are learned from, labelled, and come home.

    opener -FORWARD-> work - learner -FORWARD-> deed - labeller
    opener <-GRADIENT- work - learner <-GRADIENT- deed - labeller

Of each number there are three effects, and each has to happen once: a label, an optimizer step, a
generation. That is four messages a number.
"""

from __future__ import annotations

from roomgrad import Array, MessageType, Room, Stream, System

OPENER, LEARNER, LABELLER = "opener", "learner", "labeller"
COMPONENTS = (OPENER, LEARNER, LABELLER)
MESSAGES_PER_NUMBER = 4
EFFECTS = ("labels", "steps", "generations")

WIDTH = 4
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
