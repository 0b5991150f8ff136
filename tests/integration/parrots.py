"""A system of two rooms for tests of the runtime: what the parrot hears in its cage, it repeats.

Also a program, for tests that need a process: `python -m tests.integration.parrots BEHAVIOUR ...`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    MessageType,
    Room,
    RuntimeSettings,
    Stream,
    System,
    main,
    on,
)
from roomgrad.component import HandlerFunction

CAGE, PERCH = Room("cage"), Room("perch")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
NUMBERS = {"DATA": Array("<f4", ("n",)), "HOW": Array("<i8", (), optional=True)}

HEARD = Stream(CAGE, FORWARD, NUMBERS, ("parrot",))
SAID = Stream(PERCH, FORWARD, NUMBERS, ("listener",))
ANSWERED = Stream(CAGE, GRADIENT, NUMBERS, ("parrot",))
PARROTS = System("parrots", (HEARD, SAID, ANSWERED), ("parrot", "listener"))


def numbers(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype="<f4")


def repeat(message: Message, context: Context) -> Message:
    """Says the double of what it heard, and counts."""
    context.counters.add("heard")
    return message.reply(PERCH, message.array * 2)


def parrot(
    function: HandlerFunction = repeat,
    *,
    when: Callable[[Message], bool] | None = None,
    answered: HandlerFunction | None = None,
    **options: Any,
) -> Component:
    """The component `parrot` with a handler of the test's own."""
    replies = [(PERCH, FORWARD), (CAGE, FORWARD)]
    handlers = [on(CAGE, FORWARD, replies=replies, when=when)(function)]
    if answered is not None:
        handlers.append(on(CAGE, GRADIENT, replies=[(PERCH, FORWARD)])(answered))
    return Component("parrot", PARROTS, RuntimeSettings, handlers, **options)


def listener(function: HandlerFunction, *, name: str = "listener", **options: Any) -> Component:
    """A component that hears what the parrot says."""
    return Component(name, PARROTS, RuntimeSettings, [on(PERCH, FORWARD)(function)], **options)


def die(message: Message, context: Context) -> Message:
    """Ends its process without a word when it hears a negative number."""
    if message.array[0] < 0:
        os._exit(9)
    return repeat(message, context)


def crash(message: Message, context: Context) -> Message:
    """Ends its process by SIGSEGV when it hears a negative number."""
    if message.array[0] < 0:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)
    return repeat(message, context)


def hang(message: Message, context: Context) -> Message:
    """Never comes back when it hears a negative number."""
    while message.array[0] < 0:
        time.sleep(1)
    return repeat(message, context)


def later(message: Message, context: Context) -> None:
    """Says what it heard after as many seconds as the first number says, and counts."""
    context.counters.add("heard")
    context.send(message.reply(PERCH, message.array), after_s=float(message.array[0]))


if __name__ == "__main__":
    behaviours = {"repeat": repeat, "die": die, "crash": crash, "hang": hang, "later": later}
    main(parrot(behaviours[sys.argv.pop(1)]))
