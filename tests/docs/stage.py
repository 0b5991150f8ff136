"""The trebuchet on a server of its own, as the pages show it: it learns, or stands still."""

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
from tests.docs.pages import ROOT, Shown, files
from tests.waiting import until

PATIENCE_S = 15.0
WRITES = ("XADD", "PUBLISH", "HSET", "DEL")

# What differs from run to run: IDs, hashes, versions, names of consumers, hosts, numbers, and with
# them how wide a column is.
KINDS = (
    r"[0-9a-f]{64}",
    r"[0-9a-f]{32}",
    r"\d+-[0-9a-f]{12}",
    r"~[^~\s\"]+~\d+~[0-9a-f]{8}",
    r"-?\d+(?:\.\d+)?(?:e-?\d+)?",
    r" {2,}",
)
CHANGING = re.compile("|".join(f"({kind})" for kind in KINDS) + "|…")


def same_shape(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed, but for IDs and numbers; … stands for anything."""
    at, parts = 0, []
    for found in CHANGING.finditer(shown):
        parts.append(re.escape(shown[at : found.start()]))
        parts.append(KINDS[found.lastindex - 1] if found.lastindex else ".*?")
        at = found.end()
    pattern = "".join([*parts, re.escape(shown[at:])])
    lines = "\n".join(line.rstrip() for line in printed.splitlines())
    return re.fullmatch(pattern, lines, re.DOTALL) is not None


@dataclass
class Stage:
    """A run `trebuchet` with small batches. The simulator only runs inside `flowing`."""

    url: str
    client: redis.Redis
    folder: Path
    names: Names

    @property
    def environ(self) -> dict[str, str]:
        """For programs that a page shows: the server, redis-cli and roomgrad."""
        return {
            **os.environ,
            "REDIS_URL": self.url,
            "PATH": os.pathsep.join([str(self.folder), *_programs(), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)]),
            "ROOMGRAD_STATE": str(self.folder / "state"),
        }

    def steps(self) -> int:
        """How many batches were finished."""
        return int(self.client.hget(self.names.counters("trainer"), "finished") or 0)

    def wait_steps(self, more: int = 3) -> None:
        """Until so many more batches are finished."""
        wanted = self.steps() + more
        until(lambda: self.steps() >= wanted, PATIENCE_S)

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        """The simulator runs; afterwards a batch waits to be shot."""
        with running(simulator, SimulatorSettings(), self.url):
            yield
        while self._waits_in() != "model":  # the simulator left when a gradient was to come
            with running(simulator, SimulatorSettings(), self.url):
                self.wait_steps(1)

    def _waits_in(self) -> str:
        """The room in which the one open batch waits for the simulator."""
        waiting = {"model": "DATA/FORWARD", "output": "DATA/GRADIENT"}
        found: list[str] = []

        def look() -> bool:
            for room, type_ in waiting.items():
                group = self.client.xinfo_groups(self.names.stream(room, type_))[0]
                if group["lag"] or group["pending"]:
                    found.append(room)
            return bool(found)

        until(look, PATIENCE_S)
        return found[0]

    def run(self, command: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.environ, cwd=self.folder, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode(errors="replace").rstrip("\n")

    def shows(self, shown: Shown) -> None:
        """Checks that a command prints what its page shows; readers of results may come early."""
        if "SUBSCRIBE" in shown.command:
            printed = self.hear(shown)
        else:
            until_s = time.monotonic() + PATIENCE_S
            printed = self.run(shown.command)
            once = any(word in WRITES for word in shlex.split(shown.command))
            while not once and not fits(shown, printed) and time.monotonic() < until_s:
                printed = self.run(shown.command)
        assert fits(shown, printed), f"{shown.where} shows\n{shown.output}\nbut it is\n{printed}"

    def hear(self, shown: Shown) -> str:
        """The first lines of what a SUBSCRIBE prints while batches flow."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {shown.command}"],
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
                    stack.enter_context(self.flowing())
                if number == shown.output.count("\n") + 1:
                    break
            return "\n".join(lines)


def fits(shown: Shown, printed: str) -> bool:
    """Bytes of the first batch are the same on every machine; the rest has to have one shape."""
    exact = "| od" in shown.command
    return printed == shown.output if exact else same_shape(shown.output, printed)


@contextlib.contextmanager
def trebuchet(folder: Path) -> Iterator[Stage]:
    """Three batches of ten are learned, the fourth waits for the simulator."""
    with throwaway_server() as server, contextlib.closing(connect(server.url)) as client:
        stage = Stage(server.url, client, folder, Names(TREBUCHET.name))
        _put_redis_cli(folder)
        for block in files():
            (folder / block.file).write_text(block.text)
        (folder / "shared").symlink_to(ROOT / "shared")
        many = 1_000_000
        with (
            running(controlmodel, ControlModelSettings(train_steps=many), server.url),
            running(trainer, TrainerSettings(train_steps=many, batch_size=10), server.url),
        ):
            with stage.flowing():
                stage.wait_steps()
            yield stage


def _programs() -> list[str]:
    """Where this Python has its programs."""
    return [str(Path(sys.executable).parent)]


def _put_redis_cli(folder: Path) -> None:
    """A redis-cli that knows the server, and prints as on a terminal unless asked for --raw."""
    real = shutil.which("redis-cli")
    program = (
        f'{real} -u "$REDIS_URL"' if real else f"{sys.executable} {ROOT}/tests/docs/redis_cli.py"
    )
    path = folder / "redis-cli"
    path.write_text(f'#!/bin/sh\n[ "$1" = --raw ] || set -- --no-raw "$@"\nexec {program} "$@"\n')
    path.chmod(0o755)
