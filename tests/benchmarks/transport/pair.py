"""One end of a hop, for the benchmarks of single messages: `ping` asks, `pong` answers.

    python -m tests.benchmarks.transport.pair KIND {ping,pong} URL [--floats 1024] ...

KIND is rooms, pubsub-raw, pubsub-raw-held or pubsub-json-held, as `transport.chain` has them.

One message is under way at a time. Ping prints a line for each window of time: how many round
trips, and the median and the 99th percentile of half of one, in ms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import redis

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
from roomgrad.codec import pack
from roomgrad.names import Names
from roomgrad.testing import running
from tests.benchmarks.transport.chain.pubsub import FORMATS, connect

PUBSUB = ("pubsub-raw", "pubsub-raw-held", "pubsub-json-held")
PING, PONG, CROWD = "ping", "pong", "crowd"
RUN = "pair"
MOST_ROOMS = 16  # that two components share
FORWARD, GRADIENT = MessageType.FORWARD, MessageType.GRADIENT
NUMBERS = {"DATA": Array("<f4", ("n",))}
Handle = Callable[[Message, Context], Message]


class Clock:
    """Takes the times between its ticks, and prints them window by window."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._took: list[float] = []
        self._count = 0
        self._began = self._last = 0.0

    def tick(self) -> None:
        """A round trip is over."""
        now = time.perf_counter()
        if not self._last:
            self._began = now
        else:
            self._took.append(now - self._last)
            if now - self._began >= self._window_s:
                self._print()
                self._began = now = time.perf_counter()
        self._last = now

    def _print(self) -> None:
        hops = sorted(each * 500 for each in self._took)
        self._count += len(hops)
        p99 = hops[min(len(hops) - 1, len(hops) * 99 // 100)]
        found = {"p50_ms": statistics.median(hops), "p99_ms": p99, "round_trips": self._count}
        print(json.dumps(found), flush=True)
        self._took.clear()


# redis-py


def pubsub(role: str, url: str, asked: argparse.Namespace) -> None:
    """Publish what is heard, as the kind says."""
    client, listener = connect(url, held=asked.kind.endswith("-held"))
    pack, unpack = FORMATS["json" in asked.kind]
    ear, mouth = ("back", "there") if role == PING else ("there", "back")
    listener.subscribe(ear)
    clock = Clock(asked.window_s)
    if role == PING:
        while not dict(client.pubsub_numsub("there"))[b"there"]:
            time.sleep(0.02)
        client.publish(mouth, pack(numbers(asked.floats).reshape(-1, 2)))
    for message in listener.listen():
        if role == PING:
            clock.tick()
        client.publish(mouth, pack(unpack(message["data"])))


# roomgrad


def contract(rooms: int, components: int) -> System:
    """So many rooms, sixteen of them for each two components, of which each hears one direction.

    Ping and pong have the first ones. More components than that have a room of their own each.
    """
    blocks = math.ceil(rooms / MOST_ROOMS)
    others = max(components, 2 * blocks) - 2
    names = (PING, PONG, *(f"{CROWD}-{number}" for number in range(others)))
    streams = []
    for number in range(rooms):
        first = number // MOST_ROOMS * 2
        room = Room(f"room-{number}")
        streams.append(Stream(room, GRADIENT, NUMBERS, (names[first],)))
        streams.append(Stream(room, FORWARD, NUMBERS, (names[first + 1],)))
    streams += [Stream(Room(name), FORWARD, NUMBERS, (name,)) for name in names[2 * blocks :]]
    return System("pair", tuple(streams), names)


def component(name: str, system: System, handle: Handle, opens: Any = None) -> Component:
    """A component that handles all that it hears in the same way."""
    handlers = []
    for stream in system.streams:
        if name in stream.consumers:
            other = GRADIENT if stream.type == FORWARD else FORWARD
            replies = [] if stream.room.name == name else [(stream.room, other)]
            handlers.append(on(stream.room, MessageType(stream.type), replies=replies)(handle))
    return Component(name, system, RuntimeSettings, handlers=handlers, on_start=opens)


def ping(system: System, asked: argparse.Namespace) -> Component:
    """Opens a root, and when it comes back the next one."""
    clock = Clock(asked.window_s)

    def handle(message: Message, context: Context) -> Message:
        clock.tick()
        following = Message.open(message.room, message.array)
        if asked.remembers:
            context.memory.pop(message.id)
            context.memory.put(following.id, answers=message.id, ROOT_ID=following.root_id)
        return following

    def opens(context: Context) -> Message:
        first = Message.open("room-0", numbers(asked.floats))
        if asked.remembers:
            context.memory.put(first.id, answers="nobody", ROOT_ID=first.root_id)
        return first

    return component(PING, system, handle, opens)


def pong(system: System, asked: argparse.Namespace) -> Component:
    """Sends back what it hears."""

    def handle(message: Message, _context: Context) -> Message:
        return message.reply(message.room, message.array, type=GRADIENT, id=message.id)

    return component(PONG, system, handle)


def crowd(system: System, url: str) -> None:
    """All other components of the system, as replicas in the threads of one process."""

    def ignore(message: Message, _context: Context) -> Message:
        return message

    with contextlib.ExitStack() as stack:
        for name in system.components[2:]:
            settings = RuntimeSettings(run=RUN, log_level="error")
            stack.enter_context(running(component(name, system, ignore), settings, url))
        threading.Event().wait()


def remember(url: str, roots: int) -> None:
    """Memory of so many open roots, beside the one that will be answered."""
    key, some = Names(RUN).memory(PING), 1000
    with redis.Redis.from_url(url) as client:
        for begin in range(0, roots, some):
            names = [f"{number:032x}" for number in range(begin, min(begin + some, roots))]
            client.hset(key, mapping={name: pack({"ROOT_ID": name}) for name in names})


def numbers(count: int) -> Any:
    """So many floats."""
    return np.arange(count, dtype="<f4") / 7


def rooms(role: str, url: str, asked: argparse.Namespace) -> None:
    """A component of ours."""
    system = contract(asked.rooms, asked.components)
    if role == CROWD:
        crowd(system, url)
    sys.argv = [role, f"--redis-url={url}", f"--run={RUN}", "--log-level=error"]
    main((ping if role == PING else pong)(system, asked))


def serve() -> None:
    """Does it, until it is killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("rooms", *PUBSUB))
    parser.add_argument("role", choices=(PING, PONG, CROWD))
    parser.add_argument("url")
    parser.add_argument("--floats", type=int, default=1024)
    parser.add_argument("--window-s", type=float, default=1.0)
    parser.add_argument("--rooms", type=int, default=1)
    parser.add_argument("--components", type=int, default=2)
    parser.add_argument("--remembers", action="store_true")
    asked = parser.parse_args()
    (rooms if asked.kind == "rooms" else pubsub)(asked.role, asked.url, asked)


if __name__ == "__main__":
    serve()
