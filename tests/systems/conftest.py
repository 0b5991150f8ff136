"""Start the real components as processes, with small numbers, on an embedded server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.launcher import Launcher
from roomgrad.local.plan import Plan
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import CONTROLMODEL, TRAINER
from roomgrad_trebuchet.options import Trebuchet
from tests.integration.sentinels import AWAY
from tests.killing import kill_server
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]

# Death is noticed sooner than by default, so that tests are.
QUICK = ["--heartbeat-interval-s=0.2", "--heartbeat-lives-s=0.8", "--lease-s=0.6"]


@dataclass
class Training:
    """A run of the trebuchet and the processes of its components."""

    options: Trebuchet
    plan: Plan
    server: EmbeddedServer
    client: redis.Redis
    launcher: Launcher

    @property
    def names(self) -> Names:
        return self.plan.names

    @property
    def applied(self) -> int:
        """Return the number of optimizer steps that are stored, or -1 if no server answers."""
        return self._counted("applied")

    def wait_applied(self, steps: int) -> None:
        """Wait until this number of optimizer steps is stored."""
        until(lambda: self.checked() >= steps)

    def wait_finished(self) -> ledger.Ledger:
        """Wait until the last root is finished, and return the counters."""
        steps = self.options.steps
        until(lambda: self.checked() >= 0 and self.finished() >= steps, timeout_s=90)
        return ledger.read(self.client, self.names)

    def checked(self) -> int:
        self.launcher.check()
        return self.applied

    def finished(self) -> int:
        """Return the number of batches that are home, or -1 if no server answers."""
        return self._counted("finished")

    def _counted(self, name: str) -> int:
        with suppress(*AWAY):
            return int(getattr(ledger.read(self.client, self.names), name))
        return -1

    def weights(self) -> str:
        """Return the SHA-256 of the parameters."""
        return ledger.weights_sha256(self.client, self.names)

    def misses(self) -> list[float]:
        return [loss.miss_m for loss in ledger.losses(self.client, self.names)]

    def leftovers(self) -> dict[str, int]:
        """Return counts that are 0 when no root is open: memory, kept weights, pending entries."""
        left = {}
        for component in self.plan.contract.components:
            left[f"memory of {component}"] = self.client.hlen(self.names.memory(component))
            left[f"weights of {component}"] = self.client.hlen(self.names.kept(component))
        for stream in self.plan.contract.streams:
            key = self.names.stream(*stream.key)
            for group in self.client.xinfo_groups(key):
                left[f"pending in {key}"] = group["pending"]
        return {name: count for name, count in left.items() if count}

    def kill_components(self) -> None:
        """End every component at once."""
        for pid in self.launcher.pids().values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_server(self) -> None:
        """Kill the server, and start it again on what it had written to disk."""
        kill_server(self.server)
        self.server = EmbeddedServer.start(
            self.server.directory, port=self.server.port, die_with_parent=True
        )


def assert_exact(training: Training) -> None:
    """Assert that every batch was sent, applied and finished once, and left nothing behind."""
    found = training.wait_finished()
    steps = training.options.steps
    assert (found.sent, found.finished, found.dead, found.open) == (steps, steps, 0, 0)
    assert (found.applied, found.distinct) == (steps, steps)
    assert (found.lost, found.duplicates) == (0, 0)
    state = training.client.hget(training.names.model(CONTROLMODEL), "step")
    assert state == b"%d" % steps
    until(lambda: training.leftovers() == {})
    assert training.client.xlen(training.names.dead()) == 0


Start = Callable[..., Training]


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Start]:
    """Start a training: `train(steps=40, replicas={"simulator": 2}, batch_size=20)`."""
    with ExitStack() as stack:

        def start(
            batch_size: int = 20,
            replicas: dict[str, int] | None = None,
            launched: bool = True,
            **asked: Any,
        ) -> Training:
            options = Trebuchet(**asked)
            counts = [f"{name}={count}" for name, count in (replicas or {}).items()]
            plan = options.plan("training", counts)
            server = stack.enter_context(throwaway_server())
            client = connect(server.url)
            stack.callback(client.close)
            launcher = Launcher(ROOT, tmp_path, {"REDIS_URL": server.url})
            training = Training(options, plan, server, client, launcher)
            stack.callback(lambda: training.server.kill())
            stack.enter_context(launcher)
            stack.callback(training.kill_components)  # a graceful end takes seconds
            for component in plan.components if launched else ():
                flags = plan.flags(component) + QUICK
                flags += [f"--batch-size={batch_size}"] if component == TRAINER else []
                launcher.start(component, flags, plan.replicas[component])
            return training

        yield start
