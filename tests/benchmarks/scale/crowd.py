"""Many real replicas in the threads of one process, for `tests.benchmarks.scale`.

    python -m tests.benchmarks.scale.crowd {pairs,idle,bystanders} URL FIRST COUNT

`pairs` are runs of two components each, between which one message of 4 KiB is under way. `idle`
are replicas of one run in which nothing happens. `bystanders` subscribe to the room of the
first pair, receive its notifications, and handle no messages. For each line of its input the
process answers how many messages its replicas have handled, and how much CPU time it has used.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time

import numpy as np

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
    on,
)
from roomgrad.log import setup
from roomgrad.testing import running

PING, PONG, BYSTANDER = "ping", "pong", "bystander"
THERE, BACK = Room("there"), Room("back")
FORWARD, LOG = MessageType.FORWARD, MessageType.LOG_MESSAGE
NUMBERS = {"DATA": Array("<f4", ("n",))}
FLOATS = 1024

SYSTEM = System(
    "scale",
    (
        Stream(THERE, FORWARD, NUMBERS, (PONG,)),
        Stream(BACK, FORWARD, NUMBERS, (PING,)),
        Stream(THERE, LOG, NUMBERS, (BYSTANDER,)),
    ),
    (PING, PONG, BYSTANDER),
)
IDLE_STACK = 256 * 1024  # bytes of a thread: thousands of them share one machine


def pair(number: int, handled: dict[tuple[str, int], int]) -> tuple[Component, Component]:
    """Two components that count what they handle; one remembers what it has opened."""

    def opened(context: Context) -> Message:
        message = Message.open(THERE, np.zeros(FLOATS, "<f4"))
        context.memory.put(message.root_id, ROOT_ID=message.root_id)
        return message

    @on(BACK, FORWARD, replies=[(THERE, FORWARD)])
    def again(message: Message, context: Context) -> Message:
        handled[PING, number] = handled.get((PING, number), 0) + 1
        context.memory.pop(message.root_id)
        return opened(context)

    @on(THERE, FORWARD, replies=[(BACK, FORWARD)])
    def back(message: Message, _context: Context) -> Message:
        handled[PONG, number] = handled.get((PONG, number), 0) + 1
        return message.reply(BACK, message.array)

    ping = Component(PING, SYSTEM, RuntimeSettings, [again], on_start=opened)
    return ping, Component(PONG, SYSTEM, RuntimeSettings, [back])


def bystander() -> Component:
    """Hears a room in which everything is for others."""

    @on(THERE, LOG)
    def ignore(_message: Message, _context: Context) -> None:
        """Is never called."""

    return Component(BYSTANDER, SYSTEM, RuntimeSettings, [ignore])


def main(kind: str, url: str, first: int, count: int) -> None:
    """Answers until its input ends."""
    setup("error", "json")
    threading.stack_size(IDLE_STACK if kind != "pairs" else 0)
    handled: dict[tuple[str, int], int] = {}
    with contextlib.ExitStack() as stack:
        for number in range(first, first + count):
            run = f"scale-{number}" if kind == "pairs" else "scale-0"
            settings = RuntimeSettings(run="idle" if kind == "idle" else run)
            for each in pair(number, handled) if kind == "pairs" else (bystander(),):
                stack.enter_context(running(each, settings, url))
        for _ in sys.stdin:
            found = {"messages": sum(handled.values()), "client_s": time.process_time()}
            print(json.dumps(found), flush=True)
        os._exit(0)  # hundreds of threads need not say goodbye: their server ends before them


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
