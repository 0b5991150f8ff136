"""Run `roomgrad` on the run of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.integration.conftest import ROOT, EchoRun
from tests.roomgrad_command import roomgrad

COMMAND = [sys.executable, "-m", "roomgrad"]


def environ(echo: EchoRun) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    return {**os.environ, "REDIS_URL": echo.url, "RUN": echo.names.run, "PYTHONPATH": paths}


def call(echo: EchoRun, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command until it ends; it reads `typed` from stdin."""
    return roomgrad(*words, environ=environ(echo), typed=typed)


def shown(echo: EchoRun, *words: str, typed: str = "") -> str:
    """Return what a command prints when it succeeds."""
    ended = call(echo, *words, typed=typed)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def found(echo: EchoRun, *words: str, typed: str = "") -> dict[str, Any]:
    """Return what a command prints as JSON."""
    answer: dict[str, Any] = json.loads(shown(echo, *words, "--json", typed=typed))
    return answer


def refused(echo: EchoRun, *words: str, code: int = 2, typed: str = "") -> str:
    """Return the sentence with which a command fails."""
    ended = call(echo, *words, typed=typed)
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, "one sentence"
    return ended.stderr


def start(echo: EchoRun, *words: str) -> subprocess.Popen[str]:
    """Start a command that runs on."""
    process = subprocess.Popen(
        [*COMMAND, *words],
        env={**environ(echo), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    echo.stack.callback(process.communicate)
    echo.stack.callback(process.kill)
    return process
