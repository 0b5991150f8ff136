"""Real servers, and `echo`: one run with a random name on one of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from roomgrad import Component, Message, RuntimeSettings, Stream
from roomgrad.errors import NoServer
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.runtime.replica import Replica
from roomgrad.testing import running, throwaway_server, wait_for
from tests.forked import Forked
from tests.integration.echo import ECHO, INPUT, REPLIES, REQUESTS, numbers
from tests.integration.old_servers import old_server
from tests.killing import kill_server
from tests.waiting import LIMIT_S, until

ROOT = Path(__file__).resolve().parents[2]

# Times short enough for tests. What is waited for is an event; these only say how soon it may come.
QUICK = {
    "heartbeat_interval_s": 0.1,
    "heartbeat_lives_s": 0.5,
    "lease_s": 0.3,
    "block_s": 0.1,
}


@dataclass
class EchoRun:
    """A run of the echo system on a server."""

    url: str
    client: redis.Redis
    names: Names
    stack: contextlib.ExitStack
    settings: dict[str, Any] = field(default_factory=dict)

    def make_settings(self, **more: Any) -> RuntimeSettings:
        return RuntimeSettings(**{"run": self.names.run, **QUICK, **self.settings, **more})

    def start(self, component: Component, *, url: str = "", **more: Any) -> Replica:
        """Start a replica in a thread, and wait until it lives; it is stopped after the test."""
        replica = self.stack.enter_context(
            running(component, self.make_settings(**more), url or self.url)
        )
        until(lambda: self.client.exists(self.names.alive(replica.consumer)))
        return replica

    def stop(self, *replicas: Replica) -> None:
        """Stop replicas, and wait until each has read its last message."""
        for replica in replicas:
            replica.stop()
            until(lambda each=replica: not self.client.exists(self.names.alive(each.consumer)))

    def spawn(self, behaviour: str, **more: Any) -> Forked:
        """Start the echo component as a process."""
        return self.spawn_module("tests.integration.echo", behaviour, **more)

    def spawn_module(
        self, module: str, *words: str, environ: Mapping[str, str | None] | None = None, **more: Any
    ) -> Forked:
        """Start a component of this run as a process, which is killed after the test."""
        given = {**QUICK, "run": self.names.run, "redis_url": self.url, **more}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        process = Forked(module, *words, *flags, environ=environ)
        self.stack.callback(process.close)
        return process

    def send(self, *values: float, **options: Any) -> Message:
        """Send numbers into room `input`."""
        message = Message.open(INPUT, numbers(*values), **options)
        with Client(ECHO, self.names.run, self.url) as client:
            message.entry = client.send(message)
        return message

    def add(self, fields: dict[str, Any], stream: Stream = REQUESTS) -> str:
        """Add any fields to a stream, as a user of redis-cli may."""
        return str(self.client.xadd(self.names.stream(*stream.key), fields).decode())

    def wait_reply(self, message: Message, **options: Any) -> Message:
        """Wait for the reply to a message, and return it."""
        return self.wait_for(REPLIES, root_id=message.root_id, **options)

    def wait_for(self, stream: Stream, **options: Any) -> Message:
        """Return the first message of a stream, also on a busy machine."""
        return wait_for(self.client, self.names, stream, **{"timeout_s": LIMIT_S, **options})

    def reply_count(self) -> int:
        """Return the number of replies so far."""
        return int(self.client.xlen(self.names.stream(*REPLIES.key)))

    def counter(self, name: str, component: str = "echo") -> int:
        return int(self.client.hget(self.names.counters(component), name) or 0)

    def pending(self, stream: Stream = REQUESTS, group: str = "echo") -> int:
        return int(self.client.xpending(self.names.stream(*stream.key), group)["pending"])

    def dead_letters(self) -> list[dict[bytes, bytes]]:
        """Return the dead letters of the run."""
        return [fields for _, fields in self.client.xrange(self.names.dead())]


# What depends most on the server is tried on Redis 8 each time; the rest is among the slow tests.
ON_REDIS8 = {
    *("test_commit", "test_commit_attacked", "test_delivery", "test_everyone", "test_history"),
    *("test_scheduler", "test_model", "test_process", "test_runs"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(item, "callspec", None)
        values = parameters.params.values() if parameters else ()
        on_redis8 = any(isinstance(value, str) and value == "redis8" for value in values)
        if on_redis8 and item.path.stem not in ON_REDIS8:
            item.add_marker(pytest.mark.slow)


def start_redis() -> Iterator[str]:
    """Start redis:8 in a container. Without Docker the test is skipped here, and fails in CI."""
    from testcontainers.core.container import DockerContainer

    container = DockerContainer("redis:8").with_exposed_ports(6379)
    try:
        container.start()
    except Exception as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no container engine: {error}")
    try:
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
        until(lambda: answers(url))
        yield url
    finally:
        container.stop()


def answers(url: str) -> bool:
    try:
        connect(url).close()
    except NoServer:
        return False
    return True


@pytest.fixture(scope="session")
def embedded_url() -> Iterator[str]:
    with throwaway_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def redis8_url() -> Iterator[str]:
    yield from start_redis()


@pytest.fixture(scope="session")
def redis72_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with old_server("redis72", tmp_path_factory.mktemp("redis72")) as url:
        yield url


@pytest.fixture(scope="session")
def valkey8_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with old_server("valkey8", tmp_path_factory.mktemp("valkey8")) as url:
        yield url


SERVERS = [
    "embedded",
    pytest.param("redis8", marks=pytest.mark.docker),
    pytest.param("redis72", marks=pytest.mark.slow),
    pytest.param("valkey8", marks=pytest.mark.slow),
]


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    """Return the address of a shared server: the embedded one, Redis 8, and the oldest ones."""
    return str(request.getfixturevalue(f"{request.param}_url"))


def make_echo_run(url: str) -> Iterator[EchoRun]:
    client = connect(url)
    names = Names(f"test-{secrets.token_hex(6)}")
    with contextlib.closing(client), contextlib.ExitStack() as stack:
        yield EchoRun(url, client, names, stack)


@pytest.fixture
def echo(url: str) -> Iterator[EchoRun]:
    """Yield a run with a random name on a shared server."""
    yield from make_echo_run(url)


@dataclass
class OwnServer:
    """A server that a test may kill, empty and slow down."""

    process: EmbeddedServer

    @property
    def url(self) -> str:
        return self.process.url

    def kill(self) -> None:
        """kill -9; what it has acknowledged is there again after a restart."""
        kill_server(self.process)

    def turn_away(self, times: int) -> None:
        """Accept connections at the address of the dead server, and close them at once."""
        with socket.create_server(("127.0.0.1", self.process.port)) as listener:
            listener.settimeout(60)
            for _ in range(times):
                listener.accept()[0].close()

    def restart(self) -> None:
        """Start it again on its data, at the same address."""
        before = self.process
        self.process = EmbeddedServer.start(
            before.directory, port=before.port, die_with_parent=True
        )


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    with throwaway_server() as server:
        own = OwnServer(server)
        yield own
        own.kill()


@pytest.fixture
def own_echo(own_server: OwnServer) -> Iterator[EchoRun]:
    """Yield a run on a server that no other test uses."""
    yield from make_echo_run(own_server.url)
