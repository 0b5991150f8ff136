"""NATS JetStream: a stream in memory or in a file, durable consumers, acknowledged when handled.

At least once: a process that dies between its PUBLISH and its acknowledgement doubles a message.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from tests.benchmarks.transport.chain.ways import BATCH, COMPONENTS, LAST, TRAINER, WAYS, Meter

STREAM = "chain"


def jetstream(component: str, url: str, *, file: bool) -> None:
    """Pass messages on until the process is killed."""
    asyncio.run(_serve(component, url, file))


async def _serve(component: str, url: str, file: bool) -> None:
    import nats
    from nats.js.api import StorageType

    client = await nats.connect(url)
    stream = client.jetstream()
    storage = StorageType.FILE if file else StorageType.MEMORY
    await stream.add_stream(name=STREAM, subjects=[f"{STREAM}.>"], storage=storage, max_msgs=10_000)
    meter = Meter() if component == TRAINER else None
    last = _subject(LAST)
    ways = {_subject(heard): _subject(way) for heard, way in WAYS[component].items()}

    async def handle(message: Any) -> None:
        array = np.frombuffer(message.data, "<f4").reshape(-1, 2)
        if meter is not None and message.subject == last:
            meter.rounds += 1
        await stream.publish(ways[message.subject], array.tobytes())
        await message.ack()

    for number, subject in enumerate(ways):
        await stream.subscribe(subject, durable=f"{component}-{number}", cb=handle, manual_ack=True)
    if meter is not None:
        while (await stream.stream_info(STREAM)).state.consumer_count < 2 * len(COMPONENTS):
            await asyncio.sleep(0.02)
        await stream.publish(f"{STREAM}.input.FORWARD", BATCH.tobytes())
    await asyncio.Event().wait()


def _subject(place: tuple[str, str]) -> str:
    return ".".join((STREAM, *place))
