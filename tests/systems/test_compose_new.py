"""A system that `roomgrad new` made, in containers: built, scaled, and trained to the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.systems.project import ROOT
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]


@dataclass
class Compose:
    """The compose project of a new system, under a name of its own."""

    folder: Path
    name: str

    def run(self, *words: str) -> str:
        """Return what `docker compose WORDS` prints; it has to succeed."""
        command = ["docker", "compose", "--project-name", self.name, *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout

    def redis(self, *words: str) -> str:
        """Return the reply that redis-cli prints."""
        return self.run("exec", "-T", "redis", "redis-cli", *words).strip()


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The system, with two houses, as its README starts it."""
    name = f"garden_{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("new")
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "shared")}
    make = [sys.executable, "-m", "roomgrad", "new", name]
    subprocess.run(make, cwd=folder, env=environ, check=True, capture_output=True)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    wheel += ["--wheel-dir", str(folder / name / "wheels"), str(ROOT / "shared")]
    subprocess.run(wheel, check=True, capture_output=True)
    compose = Compose(folder / name, name)
    try:
        compose.run("build")
        compose.run("up", "--detach", "--wait", "--wait-timeout=240", "--scale=house=2")
        yield compose
    finally:
        down = ["down", "--volumes", "--remove-orphans", "--rmi=local", "--timeout=5"]
        compose.run(*down)
        subprocess.run(["docker", "rmi", "--force", name], capture_output=True)


def test_every_replica_is_healthy(compose: Compose) -> None:
    """By the health check of its own container."""
    lines = compose.run("ps", "--format=json").splitlines()
    states = sorted((each["Service"], each["Health"]) for each in map(json.loads, lines))
    replicas = ["house", "house", "redis", "thermostat"]
    assert states == [(name, "healthy") for name in replicas]


def test_it_learns(compose: Compose) -> None:
    """Two houses share the work, and nothing is lost on the way."""
    key = f"{{{compose.name}}}"
    steps = ("HGET", f"{key}:counters:thermostat", "steps")
    until(lambda: int(compose.redis(*steps) or 0) > 1000, 120)
    assert compose.redis("XLEN", f"{key}:dead") == "0"
    assert int(compose.redis("HLEN", f"{key}:memory:house")) <= 1  # of the open batch


def test_a_stop_ends_everything_gracefully(compose: Compose) -> None:
    """A process that had to be killed would have another exit code."""
    compose.run("stop", "--timeout=20")
    lines = compose.run("ps", "--all", "--format=json").splitlines()
    assert {json.loads(line)["ExitCode"] for line in lines} == {0}
