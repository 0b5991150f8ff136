"""The same work with what people use today: `python -m tests.chaos.rivals KIND COMPONENT URL RUN`.

Each program is what the documentation of its library leads to, with the safest settings that it
offers: subscriptions are made again, streams are read as a group, are acknowledged when the
handler is done, and left messages are claimed after the lease.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson
import redis

from tests.chaos.contract import LABELLER, LEARNER, OPENER

PUBSUB, CHANNEL, STREAM = "redis-py pub/sub", "FastStream channel", "FastStream stream"
DOCKET = "docket"
KINDS = (PUBSUB, CHANNEL, STREAM, DOCKET)
AT_LEAST_ONCE = (STREAM, DOCKET)  # replicas share the messages of these
CLAIM_S = 5.0

# What each component listens to, the effect that it has, and where it answers.
PARTS = {
    OPENER: [("home", "generations", "")],
    LEARNER: [("work", "", "deed"), ("learn", "steps", "home")],
    LABELLER: [("deed", "labels", "learn")],
}
OWNERS = {hears: component for component, parts in PARTS.items() for hears, _, _ in parts}


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


def listening(kind: str, client: redis.Redis, run: str) -> bool:
    """Whether every component listens."""
    rooms = [f"{run}:{hears}" for hears in OWNERS]
    if kind == DOCKET:
        return all(client.exists(f"{run}:{component}:workers") for component in PARTS)
    if kind != STREAM:
        subscribers: Any = client.pubsub_numsub(*rooms)
        return all(count for _, count in subscribers)
    try:
        return all(client.xinfo_groups(room) for room in rooms)
    except redis.ResponseError:  # a stream that does not exist yet
        return False


def main(kind: str, component: str, url: str, run: str) -> None:
    """Run a component of one of the others."""
    if kind == PUBSUB:
        pubsub(component, url, run)
    elif kind == DOCKET:
        from tests.chaos import rival_docket

        asyncio.run(rival_docket.serve(component, url, run))
    else:
        from tests.chaos import rival_faststream

        rival_faststream.serve(component, url, run, streams=kind == STREAM)


if __name__ == "__main__":
    main(*sys.argv[1:])
