"""The gateway as a process, and unmodified swergio clients as processes that connect to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from swergio import MESSAGE_TYPE, Client

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.launcher import Launcher
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.testing import throwaway_server
from tests.pages.melody.labelling_run import free_port
from tests.systems.melody.play import QUICK, ROOT
from tests.waiting import until

GATEWAY = "gateway"
HOST = "127.0.0.1"
LINE_S = 20.0  # how long a client may take until it prints something, its start included

Line = dict[str, Any]


@dataclass
class ClientProcess:
    """A script of tests/swergio as a process, and the lines that it has printed."""

    process: subprocess.Popen[bytes]
    output: Path

    def lines(self, word: str) -> list[Line]:
        """Return the lines so far that have this word."""
        complete = self.output.read_bytes().rpartition(b"\n")[0].splitlines()
        return [line for line in map(json.loads, complete) if word in line]

    def heard(self) -> list[Any]:
        """Return what it has received, in order."""
        return [line["heard"] for line in self.lines("heard")]

    def wait(self, word: str, count: int = 1) -> list[Line]:
        """Wait for this number of lines with this word, and return them."""
        return until(lambda: found if len(found := self.lines(word)) >= count else [], LINE_S)

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class SwergioClient:
    """An unmodified client in the process of the test, which only sends."""

    def __init__(self, name: str, port: int) -> None:
        self.client = Client(name, HOST, port)
        self.said = 0

    def say(self, room: str, text: str, **more: Any) -> None:
        self.said += 1
        message = {"TYPE": MESSAGE_TYPE.DATA.TEXT.id, "DATA": text, "TO_ROOM": room}
        self.client.send({"ID": f"{self.client.name}-{self.said}", **message, **more})


@dataclass
class GatewayRun:
    """A run with its gateway and the clients that are connected to it."""

    client: redis.Redis
    launcher: Launcher
    names: Names
    directory: Path
    stack: ExitStack
    port: int = field(default_factory=free_port)
    guests: list[ClientProcess] = field(default_factory=list)

    def start(self, component: str, **flags: Any) -> None:
        """Start a component of roomgrad, or the gateway."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        self.launcher.start(component, [f"--run={self.names.run}", *words, *QUICK])

    def open(self, *switches: str, **flags: Any) -> None:
        """Start the gateway, and wait until it accepts connections."""
        words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        run, port = f"--run={self.names.run}", f"--port={self.port}"
        self.launcher.start(GATEWAY, [run, port, *words, *switches, *QUICK])
        self.wait_open()

    def wait_open(self) -> None:
        until(self.is_open)

    def is_open(self) -> bool:
        self.launcher.check()
        try:
            socket.create_connection((HOST, self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def kill_gateway(self) -> None:
        """Kill the gateway by SIGKILL; its launcher starts it again."""
        restarts = self.launcher.restarts
        os.kill(self.launcher.pids()[f"{GATEWAY}-0"], signal.SIGKILL)
        until(lambda: self.launcher.restarts > restarts)
        self.wait_open()

    def wait_left(self, name: str) -> None:
        """Wait until the gateway has noticed that a client of this name has left."""
        log = self.launcher.log_path(f"{GATEWAY}-0")

        def left() -> bool:
            lines = log.read_text().rpartition("\n")[0].splitlines()
            found = list(map(json.loads, lines))
            gone = [each for each in found if each["event"] == "client disconnected"]
            return any(each["client"].startswith(f"{name} ") for each in gone)

        until(left)

    def forget(self, system: System, component: str) -> None:
        """Forget a component of roomgrad, since a client does its work."""
        runs.forget(self.client, system, self.names, component)

    def invite(
        self, script: str, name: str, *words: str, wait: bool = True, **flags: Any
    ) -> ClientProcess:
        """Start a script of tests/swergio, and wait until it is in its rooms."""
        output = self.directory / f"guest-{len(self.guests)}-{name}.log"
        command = [sys.executable, "-m", f"tests.swergio.{script}"]
        command += [f"--port={self.port}", f"--name={name}", *words]
        command += [f"--{key}={value}" for key, value in flags.items()]
        paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
        with output.open("wb") as stdout, output.with_suffix(".err").open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        guest = ClientProcess(process, output)
        self.guests.append(guest)
        self.stack.callback(guest.kill)
        if wait:
            until(lambda: process.pid in self.ready(), LINE_S)
        return guest

    def ready(self) -> set[int]:
        """Return the processes that are in their rooms."""
        return {line["ready"] for guest in self.guests for line in guest.lines("ready")}

    def speaker(self, name: str = "speaker") -> SwergioClient:
        """Return a client in the process of the test."""
        speaker = SwergioClient(name, self.port)
        self.stack.callback(speaker.client.client.close)
        return speaker


def house(launcher: Launcher, client: redis.Redis, run: str, stack: ExitStack) -> GatewayRun:
    """Return a run that has everything but its gateway."""
    launcher.directory.mkdir(parents=True, exist_ok=True)
    return GatewayRun(client, launcher, Names(run), launcher.directory, stack)


Build = Callable[[str], GatewayRun]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Return a run in which nothing is started yet, on a server of its own."""
    with ExitStack() as stack:

        def start(run: str) -> GatewayRun:
            server: EmbeddedServer = stack.enter_context(throwaway_server())
            client = connect(server.url)
            stack.callback(client.close)
            launcher = Launcher(ROOT, tmp_path / run, {"REDIS_URL": server.url})
            stack.callback(server.kill)
            stack.callback(launcher.stop, timeout_s=5.0)
            return house(launcher, client, run, stack)

        yield start
