"""A component whose effects add up, and servers on files that a power cut left."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from roomgrad import Context, Message, Stream
from roomgrad.codec import unpack
from roomgrad.errors import NoServer
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.testing import running
from tests.integration.conftest import QUICK
from tests.integration.echo import (
    INPUT,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    numbers,
)
from tests.waiting import until

RUN = "cut"
NAMES = Names(RUN)


def add_up(message: Message, context: Context) -> Message:
    """Reply with twice the number; count it, and add it to a sum in the memory."""
    record = context.memory.get("sum") or {"sum": 0}
    context.memory.put("sum", sum=record["sum"] + int(message.array[0]))
    context.counters.add("received")
    return message.reply(OUTPUT, message.array * 2)


def send(sender: Client, *values: int) -> None:
    """Send messages with these numbers."""
    for value in values:
        sender.send(Message.open(INPUT, numbers(value)))


def add_label(sender: Client) -> None:
    """Store a label; return when it is acknowledged as on disk."""
    sender.commit(lambda context: context.counters.add("labels"), durable=True)


def growing(directory: Path) -> Path:
    """Return the part of the append-only file to which the server adds."""
    return next(directory.glob("appendonlydir/*.incr.aof"))


@contextlib.contextmanager
def started(directory: Path) -> Iterator[redis.Redis]:
    """Yield a client of a server on a directory, which is killed after the block."""
    server = EmbeddedServer.start(directory, die_with_parent=True)
    try:
        with connect(server.url) as client:
            yield client
    finally:
        server.kill()


def mend(directory: Path) -> None:
    """Do what the error says of a server that does not start on this directory."""
    with pytest.raises(NoServer, match="its append-only file is damaged") as error:
        EmbeddedServer.start(directory, die_with_parent=True)
    command = str(error.value).partition("follows it off by: ")[2]
    subprocess.run(command, shell=True, input="y\n", text=True, check=True, capture_output=True)


def url_of(client: redis.Redis) -> str:
    return f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0"


@contextlib.contextmanager
def component(url: str) -> Iterator[None]:
    """Run a replica in the block."""
    made = echo_component(add_up)
    with running(made, made.settings(run=RUN, **QUICK), url):
        yield


def count(client: redis.Redis, stream: Stream) -> int:
    return int(client.xlen(NAMES.stream(*stream.key)))


def counter(client: redis.Redis, component: str, name: str) -> int:
    return int(client.hget(NAMES.counters(component), name) or 0)


def sum_of(client: redis.Redis) -> int:
    """Return the sum in the component's memory."""
    record = client.hget(NAMES.memory("echo"), "sum")
    return int(unpack(record)["sum"]) if record else 0


def check_past(client: redis.Redis) -> None:
    """Require that no commit is there by half, and the beginning of all messages was handled."""
    handled = counter(client, "echo", "received")
    assert count(client, REPLIES) == handled <= count(client, REQUESTS)
    assert sum_of(client) == sum(range(handled))


def check_end(client: redis.Redis) -> None:
    """Wait until each message is handled; require that its effects are there once."""
    requests = count(client, REQUESTS)
    until(lambda: count(client, REPLIES) == requests)
    assert counter(client, "echo", "received") == requests
    assert sum_of(client) == sum(range(requests))
