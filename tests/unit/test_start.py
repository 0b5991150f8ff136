"""How the process of a component starts, in a container by its name, and how it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

LEAVES = """
import atexit
from roomgrad import main
from roomgrad_trebuchet.trainer.handlers import component

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("collected")

cycle = Cycle()
atexit.register(print, "told of the end")
main(component)
"""


def start(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roomgrad.runtime", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("component", "module"),
    [("trainer", "roomgrad_trebuchet.trainer"), ("dashboard", "roomgrad.web.dashboard")],
)
def test_a_component_starts_by_its_name_with_its_flags(component: str, module: str) -> None:
    """As if its module had been started itself."""
    started = start(component, "--help")
    assert started.returncode == 0, started.stderr
    assert started.stdout.startswith(f"usage: python -m {module} ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "usage: python -m roomgrad.runtime COMPONENT"),
        (["trainr"], "component 'trainr': there"),
    ],
)
def test_an_unknown_component_is_refused_in_one_sentence(words: list[str], error: str) -> None:
    """With the exit code of wrong settings."""
    refused = start(*words)
    assert refused.returncode == 2
    assert error in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_process_that_ends_collects_no_garbage() -> None:
    """It takes 0.4 s of CPU after torch was loaded; what asked to be told of the end still is."""
    words = [sys.executable, "-c", LEAVES, "--stop-s=-1"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == "told of the end\n"
