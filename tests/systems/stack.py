"""deploy/swarm.yml as a stack that tests deploy, scale, update, query and remove."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.systems.project import ROOT, emptied
from tests.waiting import until

until_docker = partial(until, every_s=0.5)  # each poll starts programs

LABEL = "roomgrad.redis"


def docker(*words: str, **variables: str) -> str:
    """Return what `docker WORDS` prints; it has to succeed."""
    return command("docker", *words, **variables)


def command(*words: str, **variables: str) -> str:
    """Return what a command prints with these variables; it has to succeed."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
    return done.stdout


@dataclass
class Stack:
    """A stack and its images, under a random name."""

    settings: dict[str, str]
    files: tuple[Path, ...]
    """deploy/swarm.yml, and the changes of the test."""
    name: str = field(default_factory=lambda: f"roomgrad-test-{uuid.uuid4().hex[:8]}")

    @property
    def variables(self) -> dict[str, str]:
        own = {"STACK": self.name, "REGISTRY": self.name, "TAG": "1", "USERS": "", "SECRETS": ""}
        return emptied() | own | self.settings

    def make_secrets(self, number: int = 1) -> None:
        """Make the secrets as an operator does."""
        command("deploy/swarm-secrets", str(number), **self.variables)

    def deploy(self, **variables: str) -> None:
        """Deploy the stack as its files describe it."""
        files = [f"--compose-file={each}" for each in self.files]
        flags = ("--resolve-image=never", "--prune", *files)  # there is no registry
        docker("stack", "deploy", *flags, self.name, **self.variables, **variables)

    def build(self, component: str) -> None:
        """Build the image of a component, with the tag `base`."""
        docker("compose", "build", component, **{**self.variables, "TAG": "base"})

    def scale(self, **replicas: int) -> None:
        """Change the numbers of replicas, and wait for them."""
        words = [f"{self.name}_{service}={count}" for service, count in replicas.items()]
        docker("service", "scale", *words)

    def update(self, service: str, tag: int) -> None:
        """Begin a rolling update of a service to another release."""
        flags = ("--detach", "--no-resolve-image", f"--image={self.name}/{service}:{tag}")
        docker("service", "update", *flags, f"{self.name}_{service}")

    def roll_back(self, service: str) -> None:
        """Begin to roll a service back."""
        docker("service", "rollback", "--detach", f"{self.name}_{service}")

    def described(self) -> list[dict[str, Any]]:
        """Return what `docker inspect` reports on each running container."""
        label = f"label=com.docker.stack.namespace={self.name}"
        ids = docker("ps", "--quiet", "--no-trunc", f"--filter={label}").split()
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True)
        return list(json.loads(done.stdout or "[]"))  # without those that have just stopped

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return the containers of one service, as `described`."""
        label, name = "com.docker.swarm.service.name", f"{self.name}_{service}"
        return [each for each in self.described() if each["Config"]["Labels"][label] == name]

    def tags(self, service: str) -> list[str]:
        """Return the releases of the running replicas."""
        images = [each["Config"]["Image"] for each in self.containers(service)]
        return sorted(image.partition(":")[2].partition("@")[0] for image in images)

    def inside(self, service: str, shell: str) -> str:
        """Return what a shell command prints in a container of a service."""
        [first, *_] = until_docker(lambda: self.containers(service), timeout_s=60)
        return docker("exec", first["Id"], "sh", "-c", shell)

    def passwords(self, service: str) -> set[str]:
        """Return the passwords of the running replicas."""
        read = ("cat", "/run/secrets/redis-password")
        commands = [["docker", "exec", each["Id"], *read] for each in self.containers(service)]
        answers = [subprocess.run(each, capture_output=True, text=True) for each in commands]
        return {answer.stdout for answer in answers if answer.returncode == 0}

    def wait_redis(self) -> None:
        """Wait until Redis answers."""
        ping = "redis-cli ping | grep -q PONG"

        def answers() -> bool:
            return any(
                _try("exec", each["Id"], "sh", "-c", ping) for each in self.containers("redis")
            )

        until_docker(answers, timeout_s=120)

    def redis(self, *words: str) -> list[str]:
        """Return the lines that redis-cli prints."""
        [first, *_] = self.containers("redis")
        return docker("exec", first["Id"], "redis-cli", *words).splitlines()

    def counters(self) -> dict[str, int]:
        """Return the counters of trainer and control model."""
        keys = [f"{{trebuchet}}:counters:{name}" for name in ("trainer", "controlmodel")]
        words = [word for key in keys for word in self.redis("HGETALL", key) if word]
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def log(self, service: str) -> str:
        """Return the log of all replicas."""
        return docker("service", "logs", "--raw", f"{self.name}_{service}")

    def remove(self) -> None:
        """Remove everything under its name."""
        _try("stack", "rm", self.name)
        until_docker(lambda: not self.described(), timeout_s=120)
        for kind in ("config", "secret", "volume", "network"):
            until_docker(partial(self._removed, kind), timeout_s=60)
        images = docker("images", "--format={{.Repository}}:{{.Tag}}", f"{self.name}/*").split()
        _try("rmi", "--force", *images)

    def _removed(self, kind: str) -> bool:
        """Remove what there is of a kind; one that is still in use is tried again."""
        found = docker(kind, "ls", "--quiet", f"--filter=name={self.name}").split()
        return not found or _try(kind, "rm", *found)


def _try(*words: str) -> bool:
    return subprocess.run(["docker", *words], capture_output=True).returncode == 0


@contextmanager
def swarm() -> Iterator[None]:
    """Make this machine a swarm in which Redis may have its volume; restore it afterwards."""
    made = docker("info", "--format={{.Swarm.LocalNodeState}}").strip() == "inactive"
    if made:
        docker("swarm", "init", "--advertise-addr=127.0.0.1")
    try:
        node = docker("info", "--format={{.Swarm.NodeID}}").strip()
        labelled = LABEL in docker("node", "inspect", "--format={{.Spec.Labels}}", node)
        docker("node", "update", f"--label-add={LABEL}=1", node)
        yield
        if not labelled:
            docker("node", "update", f"--label-rm={LABEL}", node)
    finally:
        if made:
            docker("swarm", "leave", "--force")


@contextmanager
def removed_afterwards(stack: Stack) -> Iterator[Stack]:
    """Remove the stack, even if the test fails."""
    try:
        yield stack
    finally:
        stack.remove()
