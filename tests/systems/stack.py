"""deploy/swarm.yml as a stack that tests deploy, scale, update, ask and take away again."""

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

from tests.systems.project import ROOT, UNSET
from tests.waiting import until

look = partial(until, every_s=0.5)  # each look starts some programs

LABEL = "roomgrad.redis"


def docker(*words: str, **variables: str) -> str:
    """What `docker WORDS` prints; it has to succeed."""
    return command("docker", *words, **variables)


def command(*words: str, **variables: str) -> str:
    """What a command prints, run with some variables; it has to succeed."""
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
    return done.stdout


@dataclass
class Stack:
    """A stack with a name of its own, and images under a name of its own."""

    settings: dict[str, str]
    files: tuple[Path, ...]
    """deploy/swarm.yml, and what the test changes in it."""
    name: str = field(default_factory=lambda: f"roomgrad-test-{uuid.uuid4().hex[:8]}")

    @property
    def variables(self) -> dict[str, str]:
        own = {"STACK": self.name, "REGISTRY": self.name, "TAG": "1", "USERS": "", "SECRETS": ""}
        return dict.fromkeys(UNSET, "") | own | self.settings

    def make_secrets(self, number: int = 1) -> None:
        """As an operator does."""
        command("deploy/swarm-secrets", str(number), **self.variables)

    def deploy(self, **variables: str) -> None:
        """Bring the stack to what its files say."""
        files = [f"--compose-file={each}" for each in self.files]
        flags = ("--resolve-image=never", "--prune", *files)  # there is no registry
        docker("stack", "deploy", *flags, self.name, **self.variables, **variables)

    def build(self, component: str) -> None:
        """Build the image of a component, with the tag `base`."""
        docker("compose", "build", component, **{**self.variables, "TAG": "base"})

    def scale(self, **replicas: int) -> None:
        """Change numbers of replicas, and wait for them."""
        words = [f"{self.name}_{service}={count}" for service, count in replicas.items()]
        docker("service", "scale", *words)

    def update(self, service: str, tag: int) -> None:
        """Begin to replace the replicas of a service, one by one, by those of another release."""
        flags = ("--detach", "--no-resolve-image", f"--image={self.name}/{service}:{tag}")
        docker("service", "update", *flags, f"{self.name}_{service}")

    def roll_back(self, service: str) -> None:
        """Begin to bring back what was before."""
        docker("service", "rollback", "--detach", f"{self.name}_{service}")

    def described(self) -> list[dict[str, Any]]:
        """What Docker knows of each container that runs."""
        label = f"label=com.docker.stack.namespace={self.name}"
        ids = docker("ps", "--quiet", "--no-trunc", f"--filter={label}").split()
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, text=True)
        return list(json.loads(done.stdout or "[]"))  # without those that have just gone

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Those of one service."""
        label, name = "com.docker.swarm.service.name", f"{self.name}_{service}"
        return [each for each in self.described() if each["Config"]["Labels"][label] == name]

    def tags(self, service: str) -> list[str]:
        """The releases of the replicas that run now."""
        images = [each["Config"]["Image"] for each in self.containers(service)]
        return sorted(image.partition(":")[2].partition("@")[0] for image in images)

    def inside(self, service: str, shell: str) -> str:
        """What a shell command prints in a container of a service."""
        [first, *_] = look(lambda: self.containers(service), timeout_s=60)
        return docker("exec", first["Id"], "sh", "-c", shell)

    def passwords(self, service: str) -> set[str]:
        """Those that its replicas have, without replicas that have just gone."""
        read = ("cat", "/run/secrets/redis-password")
        commands = [["docker", "exec", each["Id"], *read] for each in self.containers(service)]
        answers = [subprocess.run(each, capture_output=True, text=True) for each in commands]
        return {answer.stdout for answer in answers if answer.returncode == 0}

    def wait_redis(self) -> None:
        """Until it answers."""
        ping = "redis-cli ping | grep -q PONG"

        def answers() -> bool:
            return any(
                _try("exec", each["Id"], "sh", "-c", ping) for each in self.containers("redis")
            )

        look(answers, timeout_s=120)

    def redis(self, *words: str) -> list[str]:
        """The lines that redis-cli answers."""
        [first, *_] = self.containers("redis")
        return docker("exec", first["Id"], "redis-cli", *words).splitlines()

    def counters(self) -> dict[str, int]:
        """What trainer and control model counted."""
        keys = [f"{{trebuchet}}:counters:{name}" for name in ("trainer", "controlmodel")]
        words = [word for key in keys for word in self.redis("HGETALL", key) if word]
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def log(self, service: str) -> str:
        return docker("service", "logs", "--raw", f"{self.name}_{service}")

    def remove(self) -> None:
        """Everything that has its name."""
        _try("stack", "rm", self.name)
        look(lambda: not self.described(), timeout_s=120)
        filters = f"--filter=name={self.name}"
        for kind in ("config", "secret", "volume", "network"):
            found = docker(kind, "ls", "--quiet", filters).split()
            if found:
                look(partial(_try, kind, "rm", *found), timeout_s=60)
        images = docker("images", "--format={{.Repository}}:{{.Tag}}", f"{self.name}/*").split()
        _try("rmi", "--force", *images)


def _try(*words: str) -> bool:
    return subprocess.run(["docker", *words], capture_output=True).returncode == 0


@contextmanager
def swarm() -> Iterator[None]:
    """This machine as a swarm of its own, where Redis may have its volume; left if made here."""
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
    """Whatever happens, nothing of the stack is left behind."""
    try:
        yield stack
    finally:
        stack.remove()
