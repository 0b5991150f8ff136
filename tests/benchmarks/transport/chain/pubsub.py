"""redis-py SUBSCRIBE and PUBLISH, raw bytes or JSON by orjson.

Nothing is kept: a component that is away misses messages without notice. `held` speaks RESP2 and
publishes through one connection that the client holds; otherwise each PUBLISH borrows one from the
pool, as in the documentation of redis-py.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np
import orjson
import redis
from redis.client import PubSub

from tests.benchmarks.transport.chain.ways import BATCH, LAST, TRAINER, WAYS, Meter


def pubsub(component: str, url: str, *, as_json: bool, held: bool) -> None:
    """Pass messages on until the process is killed."""
    client, listener = connect(url, held)
    ways = {":".join(heard).encode(): ":".join(way) for heard, way in WAYS[component].items()}
    listener.subscribe(*(name.decode() for name in ways))
    pack, unpack = FORMATS[as_json]
    meter = Meter() if component == TRAINER else None
    if meter is not None:
        wait_heard(client, stream=False)
        client.publish("input:FORWARD", pack(BATCH))
    last = ":".join(LAST).encode()
    for message in listener.listen():
        array = unpack(message["data"])
        if meter is not None and message["channel"] == last:
            meter.rounds += 1
        client.publish(ways[message["channel"]], pack(array))


def connect(url: str, held: bool) -> tuple[redis.Redis, PubSub]:
    """Return a client that publishes, and one that listens."""
    protocol = 2 if held else 3
    client = redis.Redis.from_url(url, protocol=protocol, single_connection_client=held)
    listener = redis.Redis.from_url(url, protocol=protocol).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    return client, listener


def wait_heard(client: redis.Redis, stream: bool) -> None:
    """Wait until all components listen: an earlier message would be lost."""
    rooms = [":".join(heard) for ways in WAYS.values() for heard in ways]
    while True:
        try:
            if stream:
                heard: Any = [client.xinfo_groups(room) for room in rooms]
            else:
                heard = [count for _, count in client.pubsub_numsub(*rooms)]
        except redis.ResponseError:  # a stream that does not exist yet
            heard = [False]
        if all(heard):
            return
        time.sleep(0.02)


def to_bytes(array: Any) -> bytes:
    """Return the bytes of an array."""
    return bytes(array.tobytes())


def from_bytes(data: bytes) -> Any:
    """Return the array of bytes, float32 `(n, 2)`, without a copy."""
    return np.frombuffer(data, "<f4").reshape(-1, 2)


def to_json(array: Any) -> bytes:
    """Return a body with two IDs, as messages of a training system have them."""
    body = {"ID": uuid.uuid4().hex, "ROOT_ID": uuid.uuid4().hex, "DATA": array}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def from_json(data: bytes) -> Any:
    """Return the array of a body, float32 `(n, 2)`."""
    return np.array(orjson.loads(data)["DATA"], "<f4")


FORMATS = ((to_bytes, from_bytes), (to_json, from_json))  # by whether it is JSON
