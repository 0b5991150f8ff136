"""docker-compose.yml as a project that tests start, scale, query and remove."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.pages.melody.labelling_run import free_port

ROOT = Path(__file__).parents[2]
PARTNERS = {"trebuchet": ("trainer", "controlmodel"), "melody": ("learner", "evalnet")}


def emptied() -> dict[str, str]:
    """Return the settings of this shell, all empty: a test has its own and no others."""
    ours = (name for name in os.environ if name.startswith("ROOMGRAD_"))
    return dict.fromkeys([*ours, "OTEL_EXPORTER_OTLP_ENDPOINT"], "")


@dataclass
class Project:
    """A compose project under a random name, so that several can run side by side."""

    scales: dict[str, int]
    """The components that are started beside Redis, with their number of containers."""
    steps: int
    files: tuple[str, ...] = ("docker-compose.yml",)
    settings: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"roomgrad-test-{uuid.uuid4().hex[:8]}")
    port: int = field(default_factory=free_port)
    """The port of the labelling page."""
    gateway_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    prometheus_port: int = field(default_factory=free_port)
    healthy_at: float = 0.0
    """When all containers were healthy, in Unix seconds."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `docker compose WORDS` with the settings of this test and no others."""
        own = {"ROOMGRAD_TRAIN_STEPS": str(self.steps), "ROOMGRAD_BATCH_SIZE": "20"}
        own |= {"ROOMGRAD_PORT": str(self.port), "ROOMGRAD_GATEWAY_PORT": str(self.gateway_port)}
        own |= {"ROOMGRAD_DASHBOARD_PORT": str(self.dashboard_port)}
        own |= {"ROOMGRAD_PROMETHEUS_PORT": str(self.prometheus_port)}
        own |= {"REGISTRY": self.name, "TAG": "latest"}
        own |= {"COMPOSE_PROFILES": "tools,gateway,observe", **self.settings}
        files = [*(f"--file={name}" for name in self.files), "--env-file", os.devnull]
        return subprocess.run(
            ["docker", "compose", *files, "--project-name", self.name, *words],
            cwd=ROOT,
            env={**os.environ, **emptied(), **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def compose(self, *words: str) -> str:
        """Return what `docker compose WORDS` prints; it has to succeed."""
        done = self.run(*words)
        assert done.returncode == 0, f"docker compose {' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout

    def inside(self, service: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the first container of a service."""
        return self.run("exec", "-T", service, "sh", "-c", command)

    def redis(self, *words: str) -> list[str]:
        """Return the lines that redis-cli prints."""
        return self.compose("exec", "-T", "redis", "redis-cli", *words).splitlines()

    def counters(self, run: str = "trebuchet") -> dict[str, int]:
        """Return the counters of the two components that exchange batches."""
        keys = [f"{{{run}}}:counters:{name}" for name in PARTNERS[run]]
        words = [word for key in keys for word in self.redis("HGETALL", key)]
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def ids(self, *services: str) -> list[str]:
        """Return the IDs of the containers of some services, or of all."""
        return self.compose("ps", "--all", "--quiet", "--no-trunc", *services).split()

    def containers(self) -> list[dict[str, Any]]:
        """Return what `docker inspect` reports on every container."""
        described = subprocess.run(
            ["docker", "inspect", *self.ids()], capture_output=True, check=True
        )
        found: list[dict[str, Any]] = json.loads(described.stdout)
        return found

    def start(self) -> None:
        """Start all services with their replicas, and wait until they are healthy."""
        self.up("--wait", "--wait-timeout=480")
        self.healthy_at = time.time()

    def up(self, *flags: str, **changed: int) -> None:
        """Start or stop containers until each service has its number of them, or a changed one."""
        scales = [f"--scale={name}={count}" for name, count in (self.scales | changed).items()]
        self.compose("up", "--detach", *flags, *scales, *self.scales, "redis")

    def wait_finished(self, timeout_s: float = 600.0) -> dict[str, int]:
        """Wait until every batch is finished. Each poll takes a tenth of a second."""
        until = time.monotonic() + timeout_s
        while (counters := self.counters()).get("finished") != self.steps:
            assert time.monotonic() < until, self.run("logs", "--tail=20").stdout
        return counters


@contextmanager
def removed_afterwards(project: Project) -> Iterator[Project]:
    """Remove the project, even if the test fails."""
    try:
        yield project
    finally:
        project.run("down", "--volumes", "--remove-orphans", "--timeout=5")
        listed = ["docker", "images", "--quiet", f"{project.name}/*"]
        images = subprocess.run(listed, capture_output=True, text=True).stdout.split()
        if images:
            subprocess.run(["docker", "rmi", "--force", *images], capture_output=True)


def service_of(container: dict[str, Any]) -> str:
    """Return the service of a container that `Project.containers` described."""
    service: str = container["Config"]["Labels"]["com.docker.compose.service"]
    return service
