"""docker-compose.yml, as a person would use it: built, scaled, asked, restarted and stopped."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The first build installs torch; with what it leaves in Docker's cache all of this takes a minute.
pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
COMPONENTS = {"trainer": 1, "controlmodel": 2, "simulator": 4}
STEPS = 60


@dataclass(frozen=True)
class Project:
    """A compose project with a name of its own, so that several may run side by side."""

    name: str

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`docker compose WORDS`, with settings of this test and no others."""
        own = {"TRAIN_STEPS": str(STEPS), "BATCH_SIZE": "20", "COMPOSE_PROFILES": "tools"}
        others = dict.fromkeys(("PRESET", "RUN", "SEED", "THREADS", "WEIGHT_HEAD", "WINDOW"), "")
        files = ["--file", "docker-compose.yml", "--env-file", os.devnull]
        return subprocess.run(
            ["docker", "compose", *files, "--project-name", self.name, *words],
            cwd=ROOT,
            env={**os.environ, **others, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def compose(self, *words: str) -> str:
        """What `docker compose WORDS` prints; it has to succeed."""
        done = self.run(*words)
        assert done.returncode == 0, f"docker compose {' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout

    def inside(self, service: str, command: str) -> subprocess.CompletedProcess[str]:
        """A shell command in the first container of a service."""
        return self.run("exec", "-T", service, "sh", "-c", command)

    def redis(self, *words: str) -> list[str]:
        """The lines that redis-cli answers."""
        return self.compose("exec", "-T", "redis", "redis-cli", *words).splitlines()

    def counters(self) -> dict[str, int]:
        """What trainer and control model counted."""
        keys = [f"{{trebuchet}}:counters:{name}" for name in ("trainer", "controlmodel")]
        words = [word for key in keys for word in self.redis("HGETALL", key)]
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def containers(self) -> list[dict[str, Any]]:
        """What Docker knows of every container of the project."""
        ids = self.compose("ps", "--all", "--quiet").split()
        described = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True)
        found: list[dict[str, Any]] = json.loads(described.stdout)
        return found

    def start(self) -> None:
        """Start everything, several replicas of those that can share work; wait until healthy."""
        scales = [f"--scale={name}={count}" for name, count in COMPONENTS.items()]
        services = [*COMPONENTS, "redis"]
        self.compose("up", "--detach", "--wait", "--wait-timeout=120", *scales, *services)

    def wait_finished(self, timeout_s: float = 120.0) -> dict[str, int]:
        """Wait until every batch came home; each look at Redis takes a tenth of a second."""
        until = time.monotonic() + timeout_s
        while (counters := self.counters()).get("finished") != STEPS:
            assert time.monotonic() < until, self.run("logs", "--tail=20").stdout
        return counters


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """The system in containers, which has learned what it was to learn."""
    project = Project(f"roomgrad-test-{uuid.uuid4().hex[:8]}")
    try:
        project.compose("build")
        project.start()
        project.wait_finished()
        yield project
    finally:
        project.run("down", "--volumes", "--remove-orphans", "--rmi=local", "--timeout=5")


def service_of(container: dict[str, Any]) -> str:
    service: str = container["Config"]["Labels"]["com.docker.compose.service"]
    return service


def test_every_component_is_a_service(project: Project) -> None:
    """Folder, compose service and name on the wire are one word."""
    folders = {path.parent.name for path in ROOT.glob("services/*/__main__.py")}
    assert folders == set(project.compose("config", "--services").split()) - {"redis", "secrets"}


def test_scaled_components_train_every_batch_once(project: Project) -> None:
    """Four simulators and two control models: nothing lost, nothing twice, nothing left over."""
    counters = project.wait_finished()
    assert counters["sent"] == counters["applied"] == counters["distinct"] == STEPS
    assert counters.get("dead", 0) == 0
    assert project.redis("XLEN", "{trebuchet}:dead") == ["0"]
    for component in COMPONENTS:
        assert project.redis("HLEN", f"{{trebuchet}}:memory:{component}") == ["0"]


def test_every_replica_is_healthy(project: Project) -> None:
    """The health command finds each replica's own heartbeat."""
    states = [
        (service_of(each), each["State"]["Health"]["Status"])
        for each in project.containers()
        if service_of(each) in COMPONENTS
    ]
    wanted = [(name, "healthy") for name, count in COMPONENTS.items() for _ in range(count)]
    assert sorted(states) == sorted(wanted)


@pytest.mark.parametrize("service", [*COMPONENTS, "redis"])
def test_containers_can_do_nothing_but_their_work(project: Project, service: str) -> None:
    """No root, no capabilities, nothing to write to."""
    assert int(project.inside(service, "id -u").stdout) != 0
    assert "Read-only file system" in project.inside(service, "touch /usr/x").stderr
    status = project.inside(service, "cat /proc/1/status").stdout.split("\n")
    lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert int(lines["CapBnd"], 16) == 0
    assert int(lines["NoNewPrivs"]) == 1


def test_simulator_starts_with_compiled_physics(project: Project) -> None:
    """A kernel that had to be compiled would have been kept beside the one of the image."""
    same = project.inside("simulator", "ls /opt/numba/*/*.nbc && diff -r /opt/numba /tmp/numba")
    assert same.returncode == 0, same.stdout + same.stderr


def test_inference_answers(project: Project) -> None:
    """`docker compose run` asks the system that is up."""
    flags = ("--wind", "3", "--target", "60", "--json")
    answer = json.loads(project.compose("run", "--rm", "-T", "inference", *flags))
    assert (answer["wind"], answer["target"]) == (3.0, 60.0)
    assert answer["status"] == 0
    assert math.isfinite(answer["miss_m"])


def test_redis_wants_the_password(project: Project) -> None:
    """Only the redis-cli of the project knows it."""
    without = project.inside("redis", "PATH=/usr/local/bin:/usr/bin:/bin redis-cli ping")
    assert "NOAUTH" in without.stdout
    assert project.redis("ping") == ["PONG"]


def test_redis_is_reachable_only_inside(project: Project) -> None:
    """No port is published unless it is asked for."""
    redis = next(each for each in project.containers() if service_of(each) == "redis")
    assert not any(redis["NetworkSettings"]["Ports"].values())
    assert not redis["HostConfig"]["PortBindings"]


def test_restarted_redis_keeps_the_data(project: Project) -> None:
    """And the components find it again by themselves."""
    before = project.counters()
    weights = project.redis("HGET", "{trebuchet}:model:controlmodel", "version")
    project.compose("restart", "redis")
    project.compose("up", "--detach", "--wait", "--no-recreate", "redis")
    assert project.counters() == before
    assert project.redis("HGET", "{trebuchet}:model:controlmodel", "version") == weights
    project.compose("run", "--rm", "-T", "inference", "--wind", "3", "--target", "60")


def test_stop_ends_everything_gracefully(project: Project) -> None:
    """Whatever has not ended by itself after ten seconds is killed, and its exit code tells."""
    project.compose("stop", "--timeout=10")
    codes = {each["Name"]: each["State"]["ExitCode"] for each in project.containers()}
    assert len(codes) >= sum(COMPONENTS.values())
    assert set(codes.values()) == {0}, codes
    project.start()
    assert project.wait_finished()["applied"] == STEPS
