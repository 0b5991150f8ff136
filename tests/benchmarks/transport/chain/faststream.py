"""FastStream: channels, or streams with a group, acknowledged when the handler is done.

Bodies are the bytes of arrays, which it neither parses as JSON nor validates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis

from tests.benchmarks.transport.chain.pubsub import from_bytes, to_bytes, wait_heard
from tests.benchmarks.transport.chain.ways import BATCH, FORWARD, LAST, TRAINER, WAYS, Meter


def faststream(component: str, url: str, *, stream: bool) -> None:
    """Pass messages on until the process is killed."""
    from faststream import AckPolicy, FastStream
    from faststream.redis import StreamSub

    broker = raw_broker(url)
    app = FastStream(broker, logger=None)
    meter = Meter() if component == TRAINER else None

    def make(heard: tuple[str, str], way: tuple[str, str]) -> Callable[[Any], Awaitable[None]]:
        async def handle(body: bytes) -> None:
            array = from_bytes(body)
            if meter is not None and heard == LAST:
                meter.rounds += 1
            await say(way, to_bytes(array))

        return handle

    async def say(way: tuple[str, str], body: bytes) -> None:
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
            await say(("input", FORWARD), to_bytes(BATCH))

    asyncio.run(app.run())


def raw_broker(url: str) -> Any:
    """Return a broker whose handlers get the bytes of a message as they are."""
    from faststream.redis import RedisBroker

    async def body(message: Any) -> bytes:
        return bytes(message.body)

    return RedisBroker(url, logger=None, apply_types=False, decoder=body)
