"""FastStream: channels, with bytes as they are and no validation of arguments."""

from __future__ import annotations

import asyncio

import numpy as np
import redis.asyncio

from tests.benchmarks.transport.chain.faststream import raw_broker
from tests.benchmarks.transport.flow.ends import FLOOD, Heard, array, meet, some

AT_ONCE = 100


def publish_many(url: str, numbers: range, senders: int) -> None:
    """Publish many with each write."""
    meet(url, senders, listened=True)
    asyncio.run(_publish(url, numbers))


async def _publish(url: str, numbers: range) -> None:
    async with raw_broker(url) as broker, redis.asyncio.Redis.from_url(url) as client:
        for piece in some(numbers, AT_ONCE):
            together = client.pipeline(transaction=False)
            for number in piece:
                await broker.publish(array(number).tobytes(), channel=FLOOD, pipeline=together)
            await together.execute()


def listen(url: str, heard: Heard) -> None:
    """Hear what is published."""
    from faststream import FastStream

    broker = raw_broker(url)

    @broker.subscriber(FLOOD)
    async def handle(body: bytes) -> None:
        heard.add(np.frombuffer(body, "<f4"))

    asyncio.run(FastStream(broker, logger=None).run())
