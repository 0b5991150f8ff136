"""The run that the pages show: the trebuchet on a server of its own, learning or waiting."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.testing import running, throwaway_server
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.docs.pages import ROOT, Command, programs
from tests.waiting import until

TIMEOUT_S = 30.0
WRITES = ("XADD", "PUBLISH", "HSET", "DEL")

# What differs from run to run: IDs, hashes, versions, names of consumers, hosts, numbers, and with
# them the widths of columns.
VARIABLE = (
    r"[0-9a-f]{64}",
    r"[0-9a-f]{32}",
    r"\d+-[0-9a-f]{12}",
    r"~[^~\s\"]+~\d+~[0-9a-f]{8}",
    r"-?\d+(?:\.\d+)?(?:e-?\d+)?",
    r" {2,}",
)
PLACEHOLDER = re.compile("|".join(f"({kind})" for kind in VARIABLE) + "|…")


def same_shape(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed, but for IDs and numbers; … stands for any text."""
    at, parts = 0, []
    for found in PLACEHOLDER.finditer(shown):
        parts.append(re.escape(shown[at : found.start()]))
        parts.append(VARIABLE[found.lastindex - 1] if found.lastindex else ".*?")
        at = found.end()
    pattern = "".join([*parts, re.escape(shown[at:])])
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    return re.fullmatch(pattern, lines, re.DOTALL) is not None


@dataclass
class ExampleRun:
    """A run `trebuchet` with small batches. The simulator only runs inside `simulating`."""

    url: str
    client: redis.Redis
    folder: Path
    names: Names

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the commands that a page shows: server, redis-cli, roomgrad."""
        programs_of_python = str(Path(sys.executable).parent)
        return {
            **os.environ,
            "REDIS_URL": self.url,
            "PATH": os.pathsep.join([str(self.folder), programs_of_python, os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]),
            "ROOMGRAD_STATE": str(self.folder / "state"),
        }

    def steps(self) -> int:
        """Return the number of finished batches."""
        return int(self.client.hget(self.names.counters("trainer"), "finished") or 0)

    def wait_steps(self, more: int = 3) -> None:
        """Wait until so many more batches are finished."""
        wanted = self.steps() + more
        until(lambda: self.steps() >= wanted, TIMEOUT_S)

    @contextlib.contextmanager
    def simulating(self) -> Iterator[None]:
        """Run the simulator; afterwards a batch waits for it in room `model`."""
        with running(simulator, SimulatorSettings(), self.url):
            yield
        while self._waiting_room() != "model":  # it stopped before a gradient
            with running(simulator, SimulatorSettings(), self.url):
                self.wait_steps(1)

    def _waiting_room(self) -> str:
        """Return the room in which the open batch waits for the simulator."""
        waiting = {"model": "DATA/FORWARD", "output": "DATA/GRADIENT"}
        found: list[str] = []

        def look() -> bool:
            for room, type_ in waiting.items():
                group = self.client.xinfo_groups(self.names.stream(room, type_))[0]
                if group["lag"] or group["pending"]:
                    found.append(room)
            return bool(found)

        until(look, TIMEOUT_S)
        return found[0]

    def run(self, command: str) -> str:
        """Return the output of a shell command."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.environ, cwd=self.folder, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(errors="replace").rstrip("\n")

    def check(self, command: Command) -> None:
        """Assert that a command prints what its page shows; a command that reads may be early."""
        if "SUBSCRIBE" in command.text:
            printed = self.subscribe(command)
        else:
            printed = self._settled(command)
        assert fits(command, printed), (
            f"{command.where} shows\n{command.output}\nbut it is\n{printed}"
        )

    def _settled(self, command: Command) -> str:
        deadline = time.monotonic() + TIMEOUT_S
        printed = self.run(command.text)
        once = any(word in WRITES for word in shlex.split(command.text))
        while not once and not fits(command, printed) and time.monotonic() < deadline:
            printed = self.run(command.text)
        return printed

    def subscribe(self, command: Command) -> str:
        """Return the first lines that a SUBSCRIBE prints while batches flow."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.text}"],
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process, contextlib.ExitStack() as stack:
            stack.callback(process.kill)
            lines = []
            for number, line in enumerate(process.stdout, start=1):
                lines.append(line.rstrip("\n"))
                if line.startswith("3) (integer)"):
                    stack.enter_context(self.simulating())
                if number == command.output.count("\n") + 1:
                    break
            return "\n".join(lines)


def fits(command: Command, printed: str) -> bool:
    """Whether the output fits; bytes of the first batch are equal on every machine."""
    exact = "| od" in command.text
    return printed == command.output if exact else same_shape(command.output, printed)


@contextlib.contextmanager
def trebuchet(folder: Path) -> Iterator[ExampleRun]:
    """Learn three batches of ten; a fourth waits for the simulator."""
    with throwaway_server() as server, contextlib.closing(connect(server.url)) as client:
        example = ExampleRun(server.url, client, folder, Names(TREBUCHET.name))
        _write_redis_cli(folder)
        for name, source in programs().items():
            (folder / name).write_text(source)
        (folder / "shared").symlink_to(ROOT / "shared")
        steps = 1_000_000
        with (
            running(controlmodel, ControlModelSettings(train_steps=steps), server.url),
            running(trainer, TrainerSettings(train_steps=steps, batch_size=10), server.url),
        ):
            with example.simulating():
                example.wait_steps()
            yield example


def _write_redis_cli(folder: Path) -> None:
    """Write a redis-cli that knows the server, and prints as on a terminal without --raw."""
    real = shutil.which("redis-cli")
    program = (
        f'{real} -u "$REDIS_URL"' if real else f"{sys.executable} {ROOT}/tests/docs/redis_cli.py"
    )
    path = folder / "redis-cli"
    path.write_text(f'#!/bin/sh\n[ "$1" = --raw ] || set -- --no-raw "$@"\nexec {program} "$@"\n')
    path.chmod(0o755)
