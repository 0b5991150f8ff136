"""What nobody can make grow without end: roots that are open, messages that wait."""

from __future__ import annotations

import secrets
import threading

import numpy as np
import orjson
import structlog

from roomgrad import Context, Message
from roomgrad.codec import pack
from roomgrad.memory import MAX_OPEN_ROOTS
from roomgrad.runtime.dead_letters import ERROR_STREAM
from roomgrad.testing import wait_for
from tests.integration.conftest import EchoRun
from tests.integration.echo import OUTPUT, REQUESTS, echo_component, numbers
from tests.waiting import until


def remember(message: Message, context: Context) -> Message:
    """As one who waits for a gradient."""
    reply = message.reply(OUTPUT, message.array)
    context.memory.put(reply.id, data=message.array)
    return reply


def test_roots_that_nobody_closes_do_not_fill_the_memory(echo: EchoRun) -> None:
    """A stranger's next one is a dead letter; when there is room again, all goes on."""
    key = echo.names.memory("echo")
    record = pack({"ROOT_ID": "r", "data": np.ones(2, "<f4")})
    with echo.client.pipeline(transaction=False) as together:
        for start in range(0, MAX_OPEN_ROOTS, 10_000):
            forged = {f"forged-{n}": record for n in range(start, start + 10_000)}
            together.hset(key, mapping=forged)
        together.execute()
    replica = echo.start(echo_component(remember))
    until(lambda: replica.status.open_roots == MAX_OPEN_ROOTS)
    echo.send(1)
    wait_for(echo.client, echo.names, ERROR_STREAM)
    [fields] = echo.dead_letters()
    reason = orjson.loads(fields[b"history"])["reason"]
    assert "holds 200000 open roots, expected fewer than 200000" in reason
    assert echo.client.hlen(key) == MAX_OPEN_ROOTS
    echo.client.delete(key)
    until(lambda: replica.status.open_roots == 0)
    echo.wait_reply(echo.send(2))
    assert echo.client.hlen(key) == 1


def test_who_publishes_by_hand_is_held_back(echo: EchoRun) -> None:
    """Else a flood of PUBLISH fills a stream of which nothing is trimmed before it was read."""
    go_on = threading.Event()

    def wait(message: Message, context: Context) -> None:
        assert go_on.wait(50)

    echo.start(echo_component(wait))
    echo.send(1)
    until(lambda: echo.pending() == 1)
    stream, channel = echo.names.stream(*REQUESTS.key), echo.names.channel("input")
    with echo.client.pipeline(transaction=False) as together:
        for _ in range(10_000):
            together.xadd(stream, {"m": b"{}"})
        together.execute()

    def publish() -> None:
        id_ = secrets.token_hex(8)
        body = {"ID": id_, "ROOT_ID": id_, "TYPE": "DATA/FORWARD", "DATA": numbers(1).tolist()}
        echo.client.publish(channel, orjson.dumps(body))

    try:
        with structlog.testing.capture_logs() as lines:
            publish()
            refused = until(lambda: [each for each in lines if "reason" in each])
        assert "messages wait for echo" in refused[0]["reason"]
        assert "start more of it, and publish again later" in refused[0]["reason"]
        assert echo.client.xlen(stream) == 10_001
        echo.client.xgroup_setid(stream, "echo", "$")  # somebody has read them all
        publish()
        until(lambda: echo.client.xlen(stream) == 10_002)
    finally:
        go_on.set()
