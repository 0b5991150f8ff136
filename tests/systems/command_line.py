"""Commands as somebody types them, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.systems.project import ROOT

Command = Callable[..., str]


def commands(redis_url: str, state: Path) -> Command:
    """`roomgrad WORDS` on a server, with a state folder of its own; it has to succeed."""
    paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    here = {"ROOMGRAD_STATE": str(state), "REDIS_URL": redis_url, "PYTHONPATH": paths}

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "roomgrad", *words],
            env={**os.environ, **here},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command
