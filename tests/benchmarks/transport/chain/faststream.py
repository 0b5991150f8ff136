"""FastStream: channels, or streams with a group, acknowledged when the handler is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import redis

from tests.benchmarks.transport.chain.pubsub import wait_heard
from tests.benchmarks.transport.chain.ways import BATCH, FORWARD, LAST, TRAINER, WAYS, Meter


def faststream(component: str, url: str, *, stream: bool) -> None:
    """Pass messages on until the process is killed."""
    from faststream import AckPolicy, FastStream
    from faststream.redis import RedisBroker, StreamSub

    broker = RedisBroker(url, logger=None)
    app = FastStream(broker, logger=None)
    meter = Meter() if component == TRAINER else None

    def make(heard: tuple[str, str], way: tuple[str, str]) -> Callable[[Any], Awaitable[None]]:
        async def handle(body: dict[str, Any]) -> None:
            array = np.array(body["DATA"], "<f4")
            if meter is not None and heard == LAST:
                meter.rounds += 1
            await say(way, {"DATA": array.tolist()})

        return handle

    async def say(way: tuple[str, str], body: dict[str, Any]) -> None:
        name = ":".join(way)
        if stream:
            await broker.publish(body, stream=name, maxlen=1000)
        else:
            await broker.publish(body, channel=name)

    for heard, way in WAYS[component].items():
        name = ":".join(heard)
        if stream:
            group = StreamSub(name, group=component, consumer=component, polling_interval=10)
            ack = AckPolicy.NACK_ON_ERROR
            broker.subscriber(stream=group, ack_policy=ack)(make(heard, way))
        else:
            broker.subscriber(name)(make(heard, way))

    @app.after_startup
    async def begin() -> None:
        if meter is not None:
            await asyncio.to_thread(wait_heard, redis.Redis.from_url(url), stream)
            await say(("input", FORWARD), {"DATA": BATCH.tolist()})

    asyncio.run(app.run())
