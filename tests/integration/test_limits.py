"""What nobody can make grow without end: roots that are open, messages that wait."""

from __future__ import annotations

import secrets
import threading

import numpy as np
import orjson
import structlog

from roomgrad import Context, Message
from roomgrad.codec import pack
from roomgrad.memory import MOST_OPEN
from roomgrad.runtime.dead_letters import ERROR_STREAM
from roomgrad.testing import wait_for
from tests.integration.conftest import Cage
from tests.integration.parrots import HEARD, PERCH, numbers, parrot
from tests.waiting import until


def remember(message: Message, context: Context) -> Message:
    """As one who waits for a gradient."""
    reply = message.reply(PERCH, message.array)
    context.memory.put(reply.id, data=message.array)
    return reply


def test_roots_that_nobody_closes_do_not_fill_the_memory(cage: Cage) -> None:
    """A stranger's next one is a dead letter; when there is room again, all goes on."""
    key = cage.names.memory("parrot")
    record = pack({"ROOT_ID": "r", "data": np.ones(2, "<f4")})
    with cage.client.pipeline(transaction=False) as together:
        for start in range(0, MOST_OPEN, 10_000):
            forged = {f"forged-{n}": record for n in range(start, start + 10_000)}
            together.hset(key, mapping=forged)
        together.execute()
    replica = cage.start(parrot(remember))
    until(lambda: replica.status.open_roots == MOST_OPEN)
    cage.say(1)
    wait_for(cage.client, cage.names, ERROR_STREAM)
    [fields] = cage.dead()
    reason = orjson.loads(fields[b"history"])["reason"]
    assert "holds 200000 open roots, expected fewer than 200000" in reason
    assert cage.client.hlen(key) == MOST_OPEN
    cage.client.delete(key)
    until(lambda: replica.status.open_roots == 0)
    cage.heard(cage.say(2))
    assert cage.client.hlen(key) == 1


def test_who_publishes_by_hand_is_held_back(cage: Cage) -> None:
    """Else a flood of PUBLISH fills a stream of which nothing is trimmed before it was read."""
    go_on = threading.Event()

    def wait(message: Message, context: Context) -> None:
        assert go_on.wait(50)

    cage.start(parrot(wait))
    cage.say(1)
    until(lambda: cage.pending() == 1)
    stream, channel = cage.names.stream(*HEARD.key), cage.names.channel("cage")
    with cage.client.pipeline(transaction=False) as together:
        for _ in range(10_000):
            together.xadd(stream, {"m": b"{}"})
        together.execute()

    def publish() -> None:
        id_ = secrets.token_hex(8)
        body = {"ID": id_, "ROOT_ID": id_, "TYPE": "DATA/FORWARD", "DATA": numbers(1).tolist()}
        cage.client.publish(channel, orjson.dumps(body))

    try:
        with structlog.testing.capture_logs() as lines:
            publish()
            refused = until(lambda: [each for each in lines if "reason" in each])
        assert "messages wait for parrot" in refused[0]["reason"]
        assert "start more of it, and publish again later" in refused[0]["reason"]
        assert cage.client.xlen(stream) == 10_001
        cage.client.xgroup_setid(stream, "parrot", "$")  # somebody has read them all
        publish()
        until(lambda: cage.client.xlen(stream) == 10_002)
    finally:
        go_on.set()
