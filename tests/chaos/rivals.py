"""The same work with what people use today: `python -m tests.chaos.rivals KIND COMPONENT URL RUN`.

Each program is what the documentation of its library leads to, with the safest settings that it
offers: subscriptions are made again, streams are read as a group, are acknowledged when the
handler is done, and left messages are claimed after the lease.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import redis
import redis.asyncio
from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub

from tests.chaos.contract import LABELLER, LEARNER, OPENER

PUBSUB, CHANNEL, STREAM = "redis-py pub/sub", "FastStream channel", "FastStream stream"
KINDS = (PUBSUB, CHANNEL, STREAM)
CLAIM_MS = 5000

# What each component listens to, the effect that it has, and where it answers.
PARTS = {
    OPENER: [("home", "generations", "")],
    LEARNER: [("work", "", "deed"), ("learn", "steps", "home")],
    LABELLER: [("deed", "labels", "learn")],
}


def effect(number: int) -> dict[str, bytes]:
    """An entry of a log of effects."""
    return {"m": orjson.dumps({"number": number})}


def pubsub(component: str, url: str, run: str) -> None:
    """Plain redis-py: listen, do, publish."""
    client = redis.Redis.from_url(url)
    parts = {f"{run}:{hears}": (log, to) for hears, log, to in PARTS[component]}
    listener = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listener.subscribe(*parts)
    for message in listener.listen():
        log, to = parts[message["channel"].decode()]
        number = orjson.loads(message["data"])["number"]
        if log:
            client.xadd(f"{{{run}}}:{log}:log", effect(number))  # type: ignore[arg-type]
        if to:
            client.publish(f"{run}:{to}", message["data"])


def framework(kind: str, component: str, url: str, run: str) -> None:
    """FastStream, on channels or on streams with a group."""
    broker = RedisBroker(url)
    effects: Any = redis.asyncio.Redis.from_url(url)
    me = f"{component}-{os.getpid()}"

    def make(log: str, to: str) -> Callable[[dict[str, int]], Awaitable[None]]:
        async def handle(body: dict[str, int]) -> None:
            if log:
                await effects.xadd(f"{{{run}}}:{log}:log", effect(body["number"]))
            if to and kind == STREAM:
                await broker.publish(body, stream=f"{run}:{to}")
            elif to:
                await broker.publish(body, channel=f"{run}:{to}")

        return handle

    for hears, log, to in PARTS[component]:
        name = f"{run}:{hears}"
        if kind == CHANNEL:
            broker.subscriber(name)(make(log, to))
            continue
        for claim in (None, CLAIM_MS):
            stream = StreamSub(
                name, group=component, consumer=me, min_idle_time=claim, polling_interval=10
            )
            policy = AckPolicy.NACK_ON_ERROR
            broker.subscriber(stream=stream, ack_policy=policy)(make(log, to))
    asyncio.run(FastStream(broker).run())


def listening(kind: str, client: redis.Redis, run: str) -> bool:
    """Whether every component listens."""
    rooms = [f"{run}:{hears}" for parts in PARTS.values() for hears, _, _ in parts]
    if kind != STREAM:
        subscribers: Any = client.pubsub_numsub(*rooms)
        return all(count for _, count in subscribers)
    try:
        return all(client.xinfo_groups(room) for room in rooms)
    except redis.ResponseError:  # a stream that does not exist yet
        return False


class Sender:
    """Puts numbers into the first room at a steady pace; is spared, and asks until it is heard."""

    def __init__(self, kind: str, client: redis.Redis, run: str) -> None:
        self._kind = kind
        self._client = client
        self._run = run

    def send(self, number: int) -> bool:
        """Sends one; False when the server was not there."""
        body = orjson.dumps({"number": number})
        try:
            if self._kind == STREAM:
                self._client.xadd(f"{self._run}:work", {"__data__": body})
            else:
                self._client.publish(f"{self._run}:work", body)
        except redis.RedisError:
            return False
        return True


if __name__ == "__main__":
    chosen, part, address, name = sys.argv[1:]
    if chosen == PUBSUB:
        pubsub(part, address, name)
    else:
        framework(chosen, part, address, name)
