"""The same work with FastStream, on channels or on streams with a group."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from faststream import AckPolicy, FastStream
from faststream.redis import RedisBroker, StreamSub

from tests.chaos.rivals import CLAIM_S, PARTS, effect

READ_AT_ONCE = 10  # of a backlog: what is read waits for its turn, and may be claimed meanwhile
POLL_MS = 10
ANSWER_S = 5.0  # without it FastStream waits for ever on a connection that is half-open


def serve(component: str, url: str, run: str, *, streams: bool) -> None:
    """Run a component until it is stopped."""
    broker = RedisBroker(url, socket_timeout=ANSWER_S)
    effects: Any = redis.asyncio.Redis.from_url(url)

    def make(log: str, to: str) -> Callable[[dict[str, int]], Awaitable[None]]:
        async def handle(body: dict[str, int]) -> None:
            if log:
                await effects.xadd(f"{{{run}}}:{log}:log", effect(body["number"]))
            if to and streams:
                await broker.publish(body, stream=f"{run}:{to}")
            elif to:
                await broker.publish(body, channel=f"{run}:{to}")

        return handle

    for hears, log, to in PARTS[component]:
        name, handle = f"{run}:{hears}", make(log, to)
        if not streams:
            broker.subscriber(name)(handle)
            continue
        for stream in subscriptions(name, component):
            broker.subscriber(stream=stream, ack_policy=AckPolicy.NACK_ON_ERROR)(handle)
    asyncio.run(FastStream(broker).run())


def subscriptions(name: str, group: str) -> list[StreamSub]:
    """Return the two subscriptions of a handler: FastStream reads or claims, not both in one."""
    me = f"{group}-{os.getpid()}"
    new = StreamSub(
        name, group=group, consumer=me, max_records=READ_AT_ONCE, polling_interval=POLL_MS
    )
    left = StreamSub(
        name,
        group=group,
        consumer=me,
        min_idle_time=round(CLAIM_S * 1000),
        polling_interval=POLL_MS,
    )
    return [new, left]
