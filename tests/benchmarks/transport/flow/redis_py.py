"""redis-py: PUBLISH to a subscriber, which misses what it is too slow for, or streams with a group.

A stream's group delivers at least once: a reader that dies before its XACK repeats messages.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.benchmarks.transport.chain.pubsub import FORMATS, connect
from tests.benchmarks.transport.flow.ends import FLOOD, Heard, array, meet, some

AT_ONCE = 100


def publish(url: str, numbers: range, senders: int, *, held: bool) -> None:
    """Publish raw bytes one after another."""
    client, _ = connect(url, held)
    meet(url, senders, listened=True)
    for number in numbers:
        client.publish(FLOOD, array(number).tobytes())


def publish_many(
    url: str, numbers: range, senders: int, *, held: bool, as_json: bool = False
) -> None:
    """Publish many with each write."""
    client, _ = connect(url, held)
    pack, _ = FORMATS[as_json]
    meet(url, senders, listened=True)
    for piece in some(numbers, AT_ONCE):
        together = client.pipeline(transaction=False)
        for number in piece:
            together.publish(FLOOD, pack(array(number)))
        together.execute()


def listen(url: str, heard: Heard, *, held: bool, as_json: bool = False) -> None:
    """Hear what is published."""
    _, listener = connect(url, held)
    _, unpack = FORMATS[as_json]
    listener.subscribe(FLOOD)
    for message in listener.listen():
        heard.add(unpack(message["data"]))


def add_many(url: str, numbers: range, senders: int) -> None:
    """Add raw bytes to a stream, many with each write."""
    client, _ = connect(url, held=True)
    meet(url, senders)
    for piece in some(numbers, AT_ONCE):
        together = client.pipeline(transaction=False)
        for number in piece:
            together.xadd(FLOOD, {"data": array(number).tobytes()})
        together.execute()


def read_many(url: str, heard: Heard) -> None:
    """Read many at once for a group, and acknowledge them together."""
    client, _ = connect(url, held=True)
    group = "readers"
    client.xgroup_create(FLOOD, group, id="0", mkstream=True)
    while True:
        found: Any = client.xreadgroup(group, "reader", {FLOOD: ">"}, count=AT_ONCE, block=1000)
        for _, entries in found:
            for _, fields in entries:
                heard.add(np.frombuffer(fields[b"data"], "<f4"))
            client.xack(FLOOD, group, *(entry for entry, _ in entries))
