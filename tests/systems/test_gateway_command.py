"""`roomgrad gateway`: takes the process over, and brings a server where none is named."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from roomgrad.local import children
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from tests.pages.melody.labelling_run import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command, with no server but those of the test; it is gone at the end."""
    environ = {**os.environ, "ROOMGRAD_STATE": str(tmp_path)}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    for name in ("REDIS_URL", "RUN"):
        environ.pop(name, None)
    with ExitStack() as stack:

        def start(*words: str, **variables: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "roomgrad", "gateway", *words],
                env={**environ, **variables},
                cwd=ROOT,
                text=True,
                stderr=subprocess.PIPE,
            )
            stack.callback(process.communicate)
            stack.callback(process.terminate)
            return process

        yield start


def connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def holder(url: str, run: str) -> int:
    """The process of the gateway that serves a run."""
    with closing(connect(url)) as client:
        [beat] = [client.get(key) for key in client.keys(Names(run).alive("gateway") + "~*")]
    return int(json.loads(beat)["pid"])


@pytest.mark.parametrize("how", ["redis", "redis-url", "variable"])
def test_it_is_the_gateway_where_a_server_is_named(start: Start, how: str, tmp_path: Path) -> None:
    """One process, as with `shoot`; every other flag is the gateway's."""
    port = free_port()
    with throwaway_server() as server:
        words = [] if how == "variable" else [f"--{how}", server.url]
        variables = {"REDIS_URL": server.url} if how == "variable" else {}
        process = start("--port", str(port), "--run", "mine", "--no-resend", *words, **variables)
        until(lambda: connects(port))
        assert holder(server.url, "mine") == process.pid
        assert not list(tmp_path.iterdir())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_without_a_server_it_brings_one_that_ends_with_it(start: Start, tmp_path: Path) -> None:
    """As Ctrl+C ends it: the gateway is gone, and the server too, if nobody else uses it."""
    port = free_port()
    process = start("--port", str(port))
    until(lambda: connects(port))
    server = EmbeddedServer.running(tmp_path / "server")
    assert server is not None
    gateway = holder(server.url, "trebuchet")  # its own default
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not children.alive(gateway)
    assert not children.alive(server.pid)


def test_a_wrong_flag_is_refused_by_the_gateway_itself(start: Start) -> None:
    """With its sentence and its exit code, also from under an embedded server."""
    process = start("--prt", "8080")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == "gateway: unknown flag '--prt': did you mean --port?\n"
