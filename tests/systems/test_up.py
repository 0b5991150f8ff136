"""`roomgrad up`: a system in the background, where somebody may stand in for a component."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import CONTROLMODEL, SIMULATOR, TREBUCHET
from tests.pages.melody.labelling_run import free_port
from tests.systems.command_line import Command, commands
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
STEPS = 10


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """On a server without the run of these tests."""
    with closing(connect(server.url)) as client:
        runs.delete(client, Names("trebuchet"))
        yield client


@pytest.fixture
def roomgrad(server: EmbeddedServer, tmp_path: Path) -> Iterator[Command]:
    """A command that has to succeed; the trebuchet is down at the end."""
    command = commands(server.url, tmp_path)
    yield command
    command("down")


def groups(client: redis.Redis, names: Names) -> set[str]:
    """The groups that the streams of the run have."""
    keys = [names.stream(room, type_) for room, type_, _ in runs.groups(TREBUCHET, names)]
    there = [key for key in keys if client.exists(key)]
    return {group["name"].decode() for key in there for group in client.xinfo_groups(key)}


@pytest.mark.slow
def test_no_message_waits_for_whom_somebody_stands_in(
    roomgrad: Command, client: redis.Redis
) -> None:
    """Its groups are gone and are not made again; started after all, it does what is there."""
    names = Names("trebuchet")
    roomgrad("up", "trebuchet", "--steps", str(STEPS), "--replicas", f"{SIMULATOR}=0")
    assert groups(client, names) == set(TREBUCHET.components) - {SIMULATOR}
    assert runs.forgotten(client, names) == {SIMULATOR}
    forward = names.stream("model", "DATA/FORWARD")
    until(lambda: client.xlen(forward) == 1)
    roomgrad("down")

    roomgrad("up", "trebuchet", "--steps", str(STEPS))
    assert runs.forgotten(client, names) == frozenset()
    until(lambda: ledger.read(client, names).finished == STEPS)
    assert groups(client, names) == set(TREBUCHET.components)
    assert client.xlen(names.dead()) == 0


def test_clients_of_swergio_connect_where_a_component_is_left_out(
    roomgrad: Command, client: redis.Redis
) -> None:
    """Groups that were there are removed, and the gateway does not make them again."""
    names = Names("trebuchet")
    runs.create_groups(client, TREBUCHET, names)
    port = free_port()
    said = roomgrad("up", "trebuchet", "--gateway", str(port), "--replicas", f"{SIMULATOR}=0")
    assert f"swergio clients connect to 127.0.0.1:{port}" in said
    socket.create_connection(("127.0.0.1", port)).close()
    assert roomgrad("health", "gateway") == "gateway is well.\n"
    assert groups(client, names) == set(TREBUCHET.components) - {SIMULATOR}


def test_a_client_may_take_its_place_when_everybody_waits_already(
    roomgrad: Command, client: redis.Redis
) -> None:
    """The trainer has spoken when the one who stands in comes, and nobody was there to hear it."""
    names, port, steps = Names("trebuchet"), free_port(), str(STEPS)
    words = ["--steps", steps, "--gateway", str(port), "--replicas", f"{CONTROLMODEL}=0"]
    roomgrad("up", "trebuchet", *words)
    until(lambda: client.xlen(names.stream("input", "DATA/FORWARD")) == 1)
    paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    command = [sys.executable, "-m", "tests.swergio.control", "--name=aim", f"--port={port}"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL
    ) as guest:
        try:
            until(lambda: ledger.read(client, names).finished == STEPS)
        finally:
            guest.kill()
    assert client.xlen(names.dead()) == 0
