"""A system of two rooms for tests of the runtime: its component replies with twice its input.

Also a program, for tests that need a process: `python -m tests.integration.echo BEHAVIOUR ...`.
With DIE_AT it kills itself, like `send 20` before the 20th commit is sent.
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
from roomgrad.runtime.connections import Connections
from roomgrad.runtime.loop import Loop
from tests.death import Death, countdown

INPUT, OUTPUT = Room("input"), Room("output")
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
NUMBERS = {"DATA": Array("<f4", ("n",)), "HOW": Array("<i8", (), optional=True)}

REQUESTS = Stream(INPUT, FORWARD, NUMBERS, ("echo",))
REPLIES = Stream(OUTPUT, FORWARD, NUMBERS, ("listener",))
GRADIENTS = Stream(INPUT, GRADIENT, NUMBERS, ("echo",))
ECHO = System("echo", (REQUESTS, REPLIES, GRADIENTS), ("echo", "listener"))


def numbers(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype="<f4")


def repeat(message: Message, context: Context) -> Message:
    """Reply with twice the input, and count it."""
    context.counters.add("received")
    return message.reply(OUTPUT, message.array * 2)


def echo_component(
    function: HandlerFunction = repeat,
    *,
    when: Callable[[Message], bool] | None = None,
    answered: HandlerFunction | None = None,
    **options: Any,
) -> Component:
    """Return the component `echo` with a handler of the test."""
    replies = [(OUTPUT, FORWARD), (INPUT, FORWARD)]
    handlers = [on(INPUT, FORWARD, replies=replies, when=when)(function)]
    if answered is not None:
        handlers.append(on(INPUT, GRADIENT, replies=[(OUTPUT, FORWARD)])(answered))
    return Component("echo", ECHO, RuntimeSettings, handlers, **options)


def listener(function: HandlerFunction, *, name: str = "listener", **options: Any) -> Component:
    """Return a component that reads the replies of the echo component."""
    return Component(name, ECHO, RuntimeSettings, [on(OUTPUT, FORWARD)(function)], **options)


def die(message: Message, context: Context) -> Message:
    """End the process at once on a negative number."""
    if message.array[0] < 0:
        os._exit(9)
    return repeat(message, context)


def crash(message: Message, context: Context) -> Message:
    """End the process by SIGSEGV on a negative number."""
    if message.array[0] < 0:
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)
    return repeat(message, context)


def hang(message: Message, context: Context) -> Message:
    """Never return on a negative number."""
    while message.array[0] < 0:
        time.sleep(1)
    return repeat(message, context)


def jump(message: Message, context: Context) -> Message:
    """Set this machine's clock forward by an hour meanwhile, as far as this process can tell."""
    real = time.time
    time.time = lambda: real() + 3600
    time.sleep(1.5)
    return repeat(message, context)


def ahead(message: Message, context: Context) -> Message:
    """Reply with how many seconds this process's clock is ahead of the server's, and count it."""
    context.counters.add("received")
    return message.reply(OUTPUT, numbers(time.time() - context.time()))


def later(message: Message, context: Context) -> None:
    """Send the input after as many seconds as its first number says, and count it."""
    context.counters.add("received")
    context.send(message.reply(OUTPUT, message.array), after_s=float(message.array[0]))


def die_at(where: str) -> None:
    """Kill this process before it has called a function of the loop so many times."""
    death = Death(countdown(where))
    death.before("receive", Loop, "receive")
    death.before("send", Connections, "send")
    death.before("answer", Connections, "answer")


if __name__ == "__main__":
    die_at(os.environ.get("DIE_AT", ""))
    behaviours = {
        "repeat": repeat,
        "die": die,
        "crash": crash,
        "hang": hang,
        "jump": jump,
        "ahead": ahead,
        "later": later,
    }
    main(echo_component(behaviours[sys.argv.pop(1)]))
