"""A server started like the pod of Redis, and components with the environment of their pods."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from roomgrad.local.binaries import find_binary
from roomgrad.systems import module_of
from tests.ports import neighbours
from tests.systems.project import ROOT
from tests.waiting import until


@dataclass(frozen=True)
class Served:
    """A server with the users of the cluster."""

    port: int
    secrets: dict[str, dict[str, str]]
    folder: Path
    """Contains a folder with the Secret of each component."""

    def password(self, user: str) -> str:
        """Return the password of a user; the administrator's is in the Secret of Redis."""
        secret = self.secrets["redis" if user == "default" else user]
        return secret["password" if user == "scaler" else "redis-password"]

    def as_user(self, user: str, password: str = "") -> redis.Redis:
        """Return a client for a user, by default with its own password; it does not retry."""
        once, password = Retry(NoBackoff(), 0), password or self.password(user)
        return redis.Redis(port=self.port, username=user, password=password, retry=once)

    def start(self, component: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a component with these variables as a process on this machine."""
        command = [sys.executable, "-m", module_of(component)]
        return subprocess.Popen(command, cwd=ROOT, env=self._here(component, environment))

    def ask(
        self, component: str, environment: Mapping[str, str], command: list[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as in the pod of a component."""
        env = self._here(component, environment)
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)

    def _here(self, component: str, environment: Mapping[str, str]) -> dict[str, str]:
        secrets = self.folder / component
        secrets.mkdir(exist_ok=True)
        for key, value in self.secrets[component].items():
            (secrets / key).write_text(value)
        moved = {
            name: value.replace("@redis:6379", f"@127.0.0.1:{self.port}").replace(
                "/run/secrets", str(secrets)
            )
            for name, value in environment.items()
        }
        path = os.pathsep.join((str(ROOT / "shared"), str(ROOT)))
        programs = os.pathsep.join((str(ROOT / "shared/bin"), os.environ["PATH"]))
        health = {"ROOMGRAD_HEALTH_FILE": str(self.folder / f"{component}.health")}  # of the image
        return {"PATH": programs, "PYTHONPATH": path, **health, **moved}


@contextlib.contextmanager
def serving(
    command: list[str],
    config: Mapping[str, str],
    secrets: dict[str, dict[str, str]],
    folder: Path,
) -> Iterator[Served]:
    """Start a server by the command of the pod, with a folder in place of its mounts."""
    mounts = {"/run/secrets": folder / "redis", "/etc/roomgrad": folder / "etc", "/data": folder}
    for mount, files in (("/run/secrets", secrets["redis"]), ("/etc/roomgrad", config)):
        mounts[mount].mkdir()
        for name, text in files.items():
            (mounts[mount] / name).write_text(_moved(text, mounts))
    port = neighbours()
    words = [str(find_binary()), *(_moved(each, mounts) for each in command[1:]), f"--port {port}"]
    process = subprocess.Popen(" ".join(words).split(), stdout=subprocess.DEVNULL)
    served = Served(port, secrets, folder)
    try:
        until(lambda: _answers(served))
        yield served
    finally:
        process.terminate()
        process.wait(60)


def _answers(served: Served) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(served.as_user("default").ping())
    return False


def _moved(text: str, mounts: Mapping[str, Path]) -> str:
    for mount, folder in mounts.items():
        text = re.sub(rf"(?<=\s){mount}\b|^{mount}\b", str(folder), text)
    return text
