"""`python -m roomgrad.runtime COMPONENT`, by which a container starts its component."""

from __future__ import annotations

import subprocess
import sys

import pytest


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
