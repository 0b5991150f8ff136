"""Sentinels, and the master that they name, over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roomgrad.errors import NoServer, TLSError
from roomgrad.redis.connection import Connection
from roomgrad.redis.server import connect
from roomgrad_swergio.gateway.client import RedisClient
from tests.integration.tls_server import make_certificates
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.slow]

BOTH = """
tls="--port 0 --bind 127.0.0.1 --tls-replication yes --tls-auth-clients no"
tls="$tls --tls-ca-cert-file /tls/ca.crt --tls-cert-file /tls/good.crt --tls-key-file /tls/good.key"
redis-server $tls --tls-port {server} &
echo "sentinel monitor rooms 127.0.0.1 {server} 1" >/tmp/sentinel.conf
exec redis-server /tmp/sentinel.conf --sentinel $tls --tls-port {sentinel}
"""


@dataclass
class Watched:
    """A server and the sentinel that knows it."""

    folder: Path
    port: int

    def url(self, ca: str) -> str:
        """The sentinel's address, for who trusts this CA."""
        return f"rediss+sentinel://localhost:{self.port}/rooms?ssl_ca_certs={self.folder / ca}"

    def answers(self) -> bool:
        try:
            connect(self.url("ca.crt")).close()
        except NoServer:
            return False
        return True


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Both in one container on this machine's own network, so that both name one address."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        server, sentinel = (probe.getsockname()[1] for probe in probes)
    name = f"roomgrad-test-{uuid.uuid4().hex[:8]}"
    words = ["--detach", "--rm", "--name", name, "--network=host", f"--volume={folder}:/tls:ro"]
    script = BOTH.format(server=server, sentinel=sentinel)
    command = ["docker", "run", *words, "--entrypoint=sh", "redis:8", "-c", script]
    subprocess.run(command, check=True, capture_output=True)
    try:
        found = Watched(folder, sentinel)
        until(found.answers)
        yield found
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)


async def pinged(url: str) -> bool:
    """As the gateway does it."""
    redis_client = RedisClient(url, "", "any")
    try:
        return bool(await (await redis_client.client()).ping())
    finally:
        await redis_client.close()


def test_the_master_is_found_and_spoken_to(watched: Watched) -> None:
    """By a component, a command and the gateway."""
    url = watched.url("ca.crt")
    with contextlib.closing(Connection(url)) as wire:
        wire.connect()
        assert wire.call([b"PING"]) == b"PONG"
    with contextlib.closing(connect(url)) as client:
        assert client.ping()
    assert asyncio.run(pinged(url))


def test_sentinels_of_another_ca_are_not_believed(watched: Watched) -> None:
    """What the first one showed stands in the sentence."""
    url = watched.url("other.crt")
    reason = rf"localhost:{watched.port} is not signed by the CA in \S+other\.crt"
    with pytest.raises(TLSError, match=reason):
        Connection(url).connect()
    with pytest.raises(TLSError, match=reason):
        connect(url)
    with pytest.raises(TLSError, match=reason):
        asyncio.run(pinged(url))
