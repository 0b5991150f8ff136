"""`roomgrad new`: what it makes, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roomgrad.cli.new.folder import contents
from tests.integration.conftest import ROOT
from tests.roomgrad_command import roomgrad


def new(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    return roomgrad("new", name, cwd=folder)


def test_the_folder_is_made_as_ruff_would_have_it(tmp_path: Path) -> None:
    """By its defaults, and with the name where it belongs."""
    made = new(tmp_path, "garden")
    assert made.returncode == 0, made.stderr
    assert "roomgrad up garden.yaml" in made.stdout
    folder = tmp_path / "garden"
    assert {each.name for each in folder.iterdir()} == set(contents("garden"))
    assert 'name="garden"' in (folder / "contract.py").read_text()
    for words in (["format", "--check"], ["check", "--select=E,F,I,UP,B"]):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["", "Home", "a-b", "../x", "9", "trebuchet", "world", "x" * 33])
def test_a_name_that_could_not_work_is_refused(tmp_path: Path, name: str) -> None:
    refused = new(tmp_path, name)
    assert refused.returncode == 2
    assert f"cannot be called {name!r}" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    refused = new(tmp_path, "home")
    assert refused.returncode == 2
    assert "File exists" in refused.stderr
    assert list((tmp_path / "home").iterdir()) == []


def run(folder: Path, *words: str) -> None:
    """A Python of somebody who has roomgrad installed."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "shared"), "MYPYPATH": str(ROOT / "shared")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_learner_goes_on_when_a_batch_is_given_up(tmp_path: Path) -> None:
    """And what is none of its batches is condemned at once, not tried ten times."""
    assert new(tmp_path, "home").returncode == 0
    run(tmp_path / "home", "-c", GOES_ON)


GOES_ON = """
import numpy as np
from contract import FORWARD, GRADIENT, WARMTH
from learner import component
from roomgrad import Message
from roomgrad.errors import StrayMessage
from roomgrad.testing import call, call_dead, call_start

first = call_start(component)
[root] = first.memory
dead = call_dead(component, root, memory=first.memory)
[(_, record)] = dead.memory.items()
assert record["batch"] == 1, dead

warm = Message(WARMTH.name, FORWARD, "an-id", root, np.full(20, 15, "<f4"))
compared = call(component, warm, memory=first.memory)
assert compared.memory.keys() == {root}
assert compared.replies[0].type == GRADIENT
try:
    call(component, Message.open(WARMTH, np.zeros(20, "<f4")))
except StrayMessage:
    pass
else:
    raise AssertionError("it compared what it had not asked")
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_folder_passes_mypy(tmp_path: Path) -> None:
    assert new(tmp_path, "garden").returncode == 0
    run(tmp_path / "garden", "-m", "mypy", "--strict", ".")
