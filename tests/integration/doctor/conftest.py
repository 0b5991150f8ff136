"""Servers whose settings a test may change, and the doctor."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis

from roomgrad.cli import doctor
from roomgrad.inspect.doctor import settings
from roomgrad.inspect.doctor.findings import Finding, Level
from roomgrad.local.embedded import find_binary
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet.contract import TREBUCHET
from tests import roomgrad_command
from tests.integration.conftest import ROOT, answers
from tests.ports import neighbours
from tests.waiting import until

OK, WARNING, PROBLEM = Level


@contextlib.contextmanager
def redis8(*options: str, disk: str = "") -> Iterator[str]:
    """Start redis:8 in a container, with options of its configuration."""
    from testcontainers.core.container import DockerContainer

    container = DockerContainer("redis:8").with_exposed_ports(6379)
    if disk:
        container = container.with_tmpfs_mount("/data", disk)
    with container.with_command(shlex.join(["redis-server", *options])) as started:
        url = f"redis://{started.get_container_host_ip()}:{started.get_exposed_port(6379)}/0"
        until(lambda: answers(url))
        yield url


def configured() -> list[str]:
    """Return the options of deploy/redis/redis.conf, without its users."""
    text = (ROOT / "deploy" / "redis" / "redis.conf").read_text()
    lines = [line for line in text.splitlines() if re.match(r"(?!aclfile)[a-z]", line)]
    return [word for line in lines for word in (f"--{line.split()[0]}", *shlex.split(line)[1:])]


@pytest.fixture(scope="module")
def valkey_url() -> Iterator[str]:
    with throwaway_server() as started:
        yield started.url


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with redis8(*configured()) as url:
        yield url


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.docker)])
def own_url(request: pytest.FixtureRequest) -> str:
    """Return the address of a server as the product starts it: embedded, or as in compose."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def client(own_url: str) -> Iterator[redis.Redis]:
    """Yield a client; restore the settings and delete the keys afterwards."""
    with contextlib.closing(connect(own_url)) as client:
        before = client.config_get(*settings.NAMES, "maxmemory")
        yield client
        for name, value in before.items():
            client.config_set(name, value)
        client.flushall()


def examined(url: str, run: str = "") -> list[Finding]:
    with contextlib.closing(connect(url)) as client:
        return doctor.examine(client, url, run)


def bad(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is not OK]


def only(found: list[Finding]) -> Finding:
    (finding,) = bad(found)
    return finding


def do(client: redis.Redis, finding: Finding) -> None:
    """Run the command that a finding shows first."""
    words = shlex.split(finding.do.partition(";")[0])
    assert words[:2] == ["redis-cli", "-u"]
    client.execute_command(*words[3:])


def roomgrad(url: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command `doctor` on a server."""
    variables = {"REDIS_URL": url, **environ}
    return roomgrad_command.roomgrad("doctor", *words, environ=variables)


def begin(client: redis.Redis, names: Names) -> None:
    """Register a run of the trebuchet in which no message was sent."""
    for component in TREBUCHET.components:
        runs.register(client, names, component, {})
    runs.create_groups(client, TREBUCHET, names)


TAKEN_AWAY = ("CONFIG", "BGREWRITEAOF", "BGSAVE", "SAVE", "DEBUG", "SHUTDOWN", "ACL", "MONITOR")


@contextlib.contextmanager
def managed(folder: Path, *options: str, without: Sequence[str] = TAKEN_AWAY) -> Iterator[str]:
    """Start a server as providers offer it: some commands do not exist, and options are theirs."""
    port = neighbours()
    renamed = [word for name in without for word in ("--rename-command", name, "")]
    command = [find_binary(), "--port", str(port), "--dir", str(folder), *options, *renamed]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    try:
        until(lambda: answers(url))
        yield url
    finally:
        process.kill()
        process.wait()
