"""roomgrad: a component or a client sends, a component hears. Exactly once."""

from __future__ import annotations

import sys
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
    main,
    on,
)
from roomgrad.errors import ServerError
from roomgrad.redis.client import Client
from tests.benchmarks.transport.flow import ends
from tests.benchmarks.transport.flow.ends import SINK, SOURCES, Heard, array, meet, some

FORWARD = MessageType.FORWARD
FLOOD = Room(ends.FLOOD)
MORE = {name: Room(f"more-of-{name}") for name in SOURCES}
PAIRS = {"DATA": Array("<f4", ("batch", 2))}
NEXT = {"START": Array("<i8", ())}
SYSTEM = System(
    "flow",
    (
        *(Stream(MORE[name], FORWARD, NEXT, (name,)) for name in SOURCES),
        Stream(FLOOD, FORWARD, PAIRS, (SINK,)),
    ),
    (*SOURCES, SINK),
)
AT_ONCE = 200  # messages of one commit
CLIENT_AT_ONCE = 100


def send_from_handler(url: str, numbers: range, senders: int) -> None:
    """Send some hundred messages with each commit, and to itself a message to go on."""
    name = sys.argv[2]
    room = MORE[name]

    @on(room, FORWARD, replies=[(FLOOD, FORWARD), (room, FORWARD)])
    def more(message: Message, _context: Context) -> list[Message]:
        start = int(message.fields["START"])
        piece = range(start, min(start + AT_ONCE, numbers.stop))
        replies = [message.reply(FLOOD, array(number)) for number in piece]
        if piece.stop < numbers.stop:
            replies.append(message.reply(room, START=np.array(piece.stop)))
        return replies

    def begin(_context: Context) -> Message:
        meet(url, senders)
        return Message.open(room, START=np.array(numbers.start))

    run(url, Component(name, SYSTEM, RuntimeSettings, handlers=[more], on_start=begin))


def hear(url: str, heard: Heard) -> None:
    """Hear them one by one."""

    @on(FLOOD, FORWARD)
    def count(message: Message, _context: Context) -> None:
        heard.add(message.array)

    run(url, Component(SINK, SYSTEM, RuntimeSettings, handlers=[count]))


def run(url: str, component: Component) -> None:
    """Run a component until the process is killed."""
    sys.argv = [component.name, f"--redis-url={url}", "--log-level=error"]
    main(component)


def send(url: str, numbers: range, senders: int) -> None:
    """Send each by itself."""
    send_many(url, numbers, senders, at_once=1)


def send_many(url: str, numbers: range, senders: int, at_once: int = CLIENT_AT_ONCE) -> None:
    """Send some at once, and wait while the other side is too far behind."""
    with Client(SYSTEM, redis_url=url) as client:
        meet(url, senders)
        for piece in some(numbers, at_once):
            messages = [Message.open(FLOOD, array(number)) for number in piece]
            while True:
                try:
                    client.send_many(messages)
                except ServerError:  # held back
                    time.sleep(0.01)
                else:
                    break
