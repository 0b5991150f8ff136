"""One end of a flood, for `tests.benchmarks.flood`: it sends or hears so many arrays of 100 pairs.

    python -m tests.benchmarks.transport.flow KIND {source,sink} URL [COUNT]

KIND is rooms, client, client-many or pubsub-raw. Each array begins with its number. The sink prints
how many different ones it has heard, when nothing comes any more for a second or all are there, and
how long it took from the first to the last.
"""

from __future__ import annotations

import json
import sys
import threading
import time
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
from roomgrad.errors import ServerError
from roomgrad.redis.client import Client

SOURCE, SINK = "source", "sink"
FORWARD = MessageType.FORWARD
MORE, FLOOD = Room("more"), Room("flood")
PAIRS = {"DATA": Array("<f4", ("batch", 2))}
SYSTEM = System(
    "flow",
    (
        Stream(MORE, FORWARD, {"SENT": Array("<i8", ())}, (SOURCE,)),
        Stream(FLOOD, FORWARD, PAIRS, (SINK,)),
    ),
    (SOURCE, SINK),
)
AT_ONCE = 200  # messages of one commit
CLIENTS = {"client": 1, "client-many": 100}  # how many messages a client sends at once
QUIET_S = 1.0  # without a message, then it is over
NOBODY_S = 30.0


class Heard:
    """Which numbers came, and when."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._numbers: set[int] = set()
        self._times = 0
        self._first = self._last = 0.0
        self._done = threading.Event()

    def add(self, array: Any) -> None:
        """One has come."""
        self._last = time.monotonic()
        self._first = self._first or self._last
        self._numbers.add(int(array.flat[0]))
        self._times += 1
        if len(self._numbers) == self._expected:
            self._done.set()

    def tell_at_the_end(self) -> None:
        """Prints it from a thread of its own, and goes on listening."""
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        began = time.monotonic()
        while not self._done.wait(0.1):
            now = time.monotonic()
            if (now - self._last > QUIET_S) if self._last else (now - began > NOBODY_S):
                break
        different, seconds = len(self._numbers), self._last - self._first
        found = {"heard": different, "twice": self._times - different, "seconds": seconds}
        print(json.dumps(found), flush=True)


def array(number: int) -> Any:
    """A hundred pairs, the first of which is the number."""
    made = np.arange(200, dtype="<f4").reshape(100, 2)
    made[0, 0] = number
    return made


# redis-py


def pubsub(role: str, url: str, count: int) -> None:
    """Send raw bytes, with RESP2; a subscriber that is too slow misses some."""
    client = redis.Redis.from_url(url, protocol=2)
    if role == SOURCE:
        while not dict(client.pubsub_numsub("flood"))[b"flood"]:
            time.sleep(0.02)
        for number in range(count):
            client.publish("flood", array(number).tobytes())
        return
    listener = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listener.subscribe("flood")
    heard = Heard(count)
    heard.tell_at_the_end()
    for message in listener.listen():
        heard.add(np.frombuffer(message["data"], "<f4"))


# roomgrad


def source(count: int) -> Component:
    """Sends some hundred messages with each commit, and itself a message to go on."""

    @on(MORE, FORWARD, replies=[(FLOOD, FORWARD), (MORE, FORWARD)])
    def more(message: Message, _context: Context) -> list[Message]:
        sent = int(message.fields["SENT"])
        numbers = range(sent, min(sent + AT_ONCE, count))
        replies = [message.reply(FLOOD, array(number)) for number in numbers]
        if numbers.stop < count:
            replies.append(message.reply(MORE, SENT=np.array(numbers.stop)))
        return replies

    def start(_context: Context) -> Message:
        return Message.open(MORE, SENT=np.array(0))

    return Component(SOURCE, SYSTEM, RuntimeSettings, handlers=[more], on_start=start)


def sink(count: int) -> Component:
    """Hears them one by one."""
    heard = Heard(count)
    heard.tell_at_the_end()

    @on(FLOOD, FORWARD)
    def hear(message: Message, _context: Context) -> None:
        heard.add(message.array)

    return Component(SINK, SYSTEM, RuntimeSettings, handlers=[hear])


def ask(url: str, count: int, at_once: int) -> None:
    """A client sends some at once, and waits where the other side is too far behind."""
    with Client(SYSTEM, redis_url=url) as client:
        for first in range(0, count, at_once):
            numbers = range(first, min(first + at_once, count))
            messages = [Message.open(FLOOD, array(number)) for number in numbers]
            while True:
                try:
                    client.send_many(messages)
                except ServerError:  # held back
                    time.sleep(0.01)
                else:
                    break


def serve(kind: str, role: str, url: str, count: int) -> None:
    """Run one role; the receiver runs until it is killed."""
    if kind == "pubsub-raw":
        pubsub(role, url, count)
    elif kind in CLIENTS and role == SOURCE:
        ask(url, count, CLIENTS[kind])
    else:
        sys.argv = [role, f"--redis-url={url}", "--log-level=error"]
        main((source if role == SOURCE else sink)(count))


if __name__ == "__main__":
    serve(*sys.argv[1:4], int(sys.argv[4]))
