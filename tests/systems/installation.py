"""roomgrad as installed from wheels, in an environment and a folder outside of the checkout."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = ("trebuchet", "melody", "hello", "rlgym", "split", "swergio")
DISTRIBUTIONS = ("", *(f"roomgrad_{name}" for name in SYSTEMS))
NAME = "greenhouse"
"""The system that `roomgrad new` makes."""


@dataclass(frozen=True)
class Installation:
    """An environment with roomgrad from wheels, and a folder outside of the checkout."""

    environment: Path
    folder: Path
    default_run: str = ""
    started: list[str] = field(default_factory=list)
    """The command lines of all programs that were started."""

    @property
    def python(self) -> str:
        return str(self.environment / "bin" / "python")

    def environ(self) -> dict[str, str]:
        """The state is in the folder, and the server is the embedded one."""
        own = {"PATH": f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        own |= {"RUN": self.default_run} if self.default_run else {}
        ours = ("PYTHONPATH", "ROOMGRAD_STATE", "REDIS_URL", "RUN")
        return {k: v for k, v in os.environ.items() if k not in ours} | own

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        self.started.append(" ".join(words))
        return subprocess.Popen(
            words, env=self.environ(), cwd=self.folder, text=True, stdout=subprocess.PIPE, **options
        )

    def run(self, *words: str, code: int = 0, input: str = "") -> str:
        """Return all that a program prints; it has to end with this exit code."""
        done = self._ended(words, input)
        assert done.returncode == code, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def _ended(self, words: Sequence[str], input: str = "") -> subprocess.CompletedProcess[str]:
        self.started.append(" ".join(words))
        return subprocess.run(
            words,
            env=self.environ(),
            cwd=self.folder,
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def roomgrad(self, *words: str, code: int = 0, input: str = "") -> str:
        return self.run("roomgrad", *words, code=code, input=input)

    def read(self, *words: str) -> Any:
        """Return the JSON that a command prints."""
        done = self._ended(["roomgrad", *words, "--json"])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def up(self, system: str, *words: str) -> Iterator[str]:
        """Start a system, yield what that prints, and stop the system."""
        try:
            yield self.roomgrad("up", system, *words)
        finally:
            assert f"{system} is down" in self.roomgrad("down", system)

    def install(self, *wheels: Path) -> None:
        pip = [sys.executable, "-m", "pip", "--quiet", "--python", self.python, "install"]
        flags = ["--no-deps", "--no-index", "--ignore-installed"]
        subprocess.run([*pip, *flags, *map(str, wheels)], check=True)


def build(folder: Path, *projects: Path) -> list[Path]:
    """Build the wheels of some projects with the packages that are installed here."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    flags = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, *flags, *map(str, projects)], check=True)
    return sorted(folder.glob("*.whl"))


def installed(base: Path) -> Installation:
    """Install our distributions, a third system, and one that learns with torch.

    The packages of others are those of the tests.

    A line in a .pth file adds their folder, whose own .pth files with the checkout are not read.
    """
    environment, folder = base / "venv", base / "elsewhere"
    folder.mkdir()
    venv.create(environment, symlinks=True)
    found = Installation(environment, folder)
    found.install(*build(base / "ours", *(ROOT / "shared" / name for name in DISTRIBUTIONS)))
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found.roomgrad("new", NAME)
    found.roomgrad("new", "letters", "--torch")
    found.install(*build(base / "theirs", folder / NAME, folder / "letters"))
    for project in (NAME, "letters"):
        shutil.rmtree(folder / project)
    return found
