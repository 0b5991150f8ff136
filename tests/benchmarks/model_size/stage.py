"""The processes of one measurement: a loop alone, or components on a fresh server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.systems import module_of
from tests.benchmarks.model_size.task import TREBUCHET
from tests.benchmarks.model_size.ticks import Ticks
from tests.benchmarks.transport.stage import fresh_server

MODULE = "tests.benchmarks.model_size"
ENDLESS = 10**9
RUN = Names("model-size")


@dataclass
class Processes:
    """Processes that are killed at the end of a block; the last line of each tells why it ended."""

    stack: contextlib.ExitStack
    folder: Path
    each: list[subprocess.Popen[str]] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start a module."""
        with (self.folder / f"{len(self.each)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | variables,
            )
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        self.each.append(process)
        return process

    def check(self) -> None:
        """Raise SystemExit if a process has ended that was not killed on purpose."""
        for number, process in enumerate(self.each):
            if process.poll() is not None and process.pid not in self.killed:
                lines = (self.folder / f"{number}.log").read_text().strip().splitlines()
                raise SystemExit(f"process {number} has ended: {lines[-1] if lines else ''}")

    def ticks(self, process: subprocess.Popen[str]) -> Ticks:
        """Return the steps of a process."""
        assert process.stdout is not None
        return Ticks(process.stdout, self.check)


@dataclass(frozen=True)
class Stage:
    """A run in which a model learns."""

    server: EmbeddedServer
    client: redis.Redis
    processes: Processes
    learner: str
    start_learner: Callable[[], subprocess.Popen[str]]
    learners: list[subprocess.Popen[str]]
    ticks: Ticks

    @property
    def directory(self) -> Path:
        return self.server.directory

    def info(self, section: str) -> dict[str, Any]:
        """Return what the server tells of itself."""
        found: Any = self.client.info(section)
        return dict(found)


def alone(stack: contextlib.ExitStack, widening: int, threads: int) -> Ticks:
    """Start the loop in one process."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="roomgrad-"))
    processes = Processes(stack, Path(folder))
    return processes.ticks(processes.start(f"{MODULE}.alone", str(widening), str(threads)))


def staged(stack: contextlib.ExitStack, widening: int, replicas: int, threads: int) -> Stage:
    """Start the components on a server with an append-only file that is not rewritten."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roomgrad-")))
    server = stack.enter_context(fresh_server(aof=True))
    client = stack.enter_context(redis.Redis.from_url(server.url, protocol=2))
    client.config_set("auto-aof-rewrite-percentage", 0)
    processes = Processes(stack, folder)
    variables = {"SNAPSHOTS": (folder / "snapshots").as_uri()}
    common = (f"--redis-url={server.url}", f"--run={RUN.run}", "--log-level=warning")
    common += (f"--threads={threads}",)
    learner, others, learning, training = _program(widening)
    for module in others:
        processes.start(module, *common)

    def start_learner() -> subprocess.Popen[str]:
        return processes.start(*learning, *common, **variables)

    learners = [start_learner() for _ in range(replicas)]
    trainer = processes.start(*training, *common)
    ticks = processes.ticks(trainer)
    return Stage(server, client, processes, learner, start_learner, learners, ticks)


Program = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _program(widening: int) -> Program:
    """Return the name of the learner, other modules, and how learner and trainer are started."""
    ours = f"{MODULE}.components"
    if widening != TREBUCHET:
        return "learner", (), (ours, "learner", f"--widening={widening}"), (ours, "trainer")
    steps = f"--train-steps={ENDLESS}"
    learning = (module_of("controlmodel"), steps)
    return "controlmodel", (module_of("simulator"),), learning, (ours, "trebuchet", steps)
