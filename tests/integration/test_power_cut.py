"""Power cuts: the server's append-only file ends anywhere, or in rubbish."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from roomgrad import Context, Message, Stream
from roomgrad.codec import unpack
from roomgrad.errors import NoServer
from roomgrad.inspect.doctor import server as doctor
from roomgrad.inspect.doctor.findings import Level
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import parse
from roomgrad.testing import running, throwaway_server
from tests.integration.conftest import QUICK
from tests.integration.echo import (
    ECHO,
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
MESSAGES = 24
RUBBISH = bytes(37)  # a disk did not write them: the file system shows zeros


def add_up(message: Message, context: Context) -> Message:
    """Reply with twice the number; count it, and add it to a sum in the memory."""
    record = context.memory.get("sum") or {"sum": 0}
    context.memory.put("sum", sum=record["sum"] + int(message.array[0]))
    context.counters.add("received")
    return message.reply(OUTPUT, message.array * 2)


@dataclass
class Past:
    """A server's directory after it was killed, and what its clients were told."""

    directory: Path
    labels: list[int] = field(default_factory=list)
    """How long the file was when the first, second, ... label was acknowledged as on disk."""

    @property
    def size(self) -> int:
        return growing(self.directory).stat().st_size

    def copy(self, target: Path, cut: int, end: bytes = b"") -> Path:
        """Copy it, with so many bytes of its file and another end. Return the directory."""
        shutil.copytree(
            self.directory, target, ignore=shutil.ignore_patterns("server.*", "start.*")
        )
        path = growing(target)
        path.write_bytes(path.read_bytes()[:cut] + end)
        return target


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


@contextlib.contextmanager
def component(client: redis.Redis) -> Iterator[None]:
    """Run a replica in the block."""
    port = client.connection_pool.connection_kwargs["port"]
    made = echo_component(add_up)
    with running(made, made.settings(run=RUN, **QUICK), f"redis://127.0.0.1:{port}/0"):
        yield


def count(client: redis.Redis, stream: Stream) -> int:
    return int(client.xlen(NAMES.stream(*stream.key)))


def counter(client: redis.Redis, component: str, name: str) -> int:
    return int(client.hget(NAMES.counters(component), name) or 0)


def sum_of(client: redis.Redis) -> int:
    """Return the sum in the component's memory."""
    record = client.hget(NAMES.memory("echo"), "sum")
    return int(unpack(record)["sum"]) if record else 0


@pytest.fixture(scope="module")
def past() -> Iterator[Past]:
    """A component handles messages, and labels are stored; then the power fails."""
    with throwaway_server() as server, connect(server.url) as client:
        past = Past(server.directory)
        with component(client), Client(ECHO, RUN, server.url) as sender:
            for number in range(MESSAGES):
                sender.send(Message.open(INPUT, numbers(number)))
                if number % 4 == 0:
                    sender.commit(lambda context: context.counters.add("labels"), durable=True)
                    past.labels.append(past.size)
            until(lambda: count(client, REPLIES) == MESSAGES)
        server.kill()
        yield past


@pytest.mark.parametrize("seed", range(8))
def test_a_file_that_ends_anywhere_is_a_consistent_past(
    past: Past, tmp_path: Path, seed: int
) -> None:
    """What was acknowledged as on disk is there, no commit is there by half, the run goes on."""
    cut = random.Random(seed).randrange(past.labels[0], past.size)
    with started(past.copy(tmp_path / "cut", cut)) as client:
        assert counter(client, "client", "labels") >= sum(size <= cut for size in past.labels)
        handled = counter(client, "echo", "received")
        assert count(client, REPLIES) == handled <= count(client, REQUESTS)
        assert sum_of(client) == sum(range(handled))
        requests = count(client, REQUESTS)
        with component(client):
            until(lambda: count(client, REPLIES) == requests)
        assert counter(client, "echo", "received") == requests
        assert sum_of(client) == sum(range(requests))


def test_the_doctor_names_a_file_that_was_cut_off(past: Past, tmp_path: Path) -> None:
    """Only an embedded server of this machine: another one tells it in its own log."""
    with started(past.copy(tmp_path / "cut", past.size - 5)) as client:
        port = client.connection_pool.connection_kwargs["port"]
        address = parse(f"redis://127.0.0.1:{port}/0")
        found = list(doctor.cut_off(doctor.Server.ask(client, address)))
        assert [(each.about, each.level) for each in found] == [("append-only file", Level.WARNING)]
        assert re.search(r"Truncating the AOF .*\.incr\.aof at offset \d+", found[0].found)
    with started(past.copy(tmp_path / "whole", past.size)) as client:
        assert not list(doctor.cut_off(doctor.Server.ask(client, address)))


@pytest.mark.parametrize("end", [RUBBISH, RUBBISH + b"*3\r\n"], ids=["zeros", "zeros, a command"])
def test_rubbish_at_the_end_of_the_file_is_cut_off_by_hand(
    past: Past, tmp_path: Path, end: bytes
) -> None:
    """The server does not start, and the error says how to mend its file; then the run goes on."""
    directory = past.copy(tmp_path / "torn", past.size, end)
    with pytest.raises(NoServer, match="its append-only file is damaged") as error:
        EmbeddedServer.start(directory, die_with_parent=True)
    command = str(error.value).partition("follows it off by: ")[2]
    subprocess.run(command, shell=True, input="y\n", text=True, check=True, capture_output=True)
    with started(directory) as client:
        assert counter(client, "client", "labels") == len(past.labels)
        assert counter(client, "echo", "received") == count(client, REPLIES) == MESSAGES
