"""`roomgrad new`: what it makes, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT
from tests.roomgrad_command import roomgrad


def new(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call `roomgrad new` in a folder."""
    return roomgrad("new", *words, cwd=folder)


def run(folder: Path, *words: str) -> str:
    """Return what a Python program prints in a project, as if roomgrad were installed."""
    paths = os.pathsep.join([str(ROOT / "shared"), str(folder)])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "MYPYPATH": str(ROOT / "shared")},
        capture_output=True,
        text=True,
        timeout=350,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def own_tests(folder: Path, *words: str) -> str:
    """Return what a project's own tests print; one that hangs prints where."""
    flags = ("-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=300")
    return run(folder, "-m", "pytest", "-q", *flags, *words)


def add(file: Path, before: str, text: str) -> None:
    """Put text before the only place in a file that reads so."""
    content = file.read_text()
    assert content.count(before) == 1
    file.write_text(content.replace(before, text + before))


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a system `garden` with one more component, `gauge`, as the command says."""
    folder = tmp_path_factory.mktemp("new")
    made = new(folder, "garden")
    assert made.returncode == 0, made.stderr
    assert "pip install -e . && roomgrad up garden" in made.stdout
    more = new(folder / "garden", "gauge", "--system", "garden")
    assert more.returncode == 0, more.stderr
    lines = [line.strip() for line in more.stdout.splitlines()]
    contract = folder / "garden/garden/contract.py"
    [room] = [line for line in lines if line.startswith("GAUGE_ROOM = ")]
    [stream] = [line for line in lines if line.startswith("streams=(..., ")]
    add(contract, "\nHEATED = ", 'GAUGE = "gauge"\n')
    add(contract, "\nFORWARD = ", f"{room}\n")
    add(contract, "),\n    streams=(", ", GAUGE")
    add(contract, "    ),\n)\n", f"        {stream.removeprefix('streams=(..., ')[:-2]},\n")
    assert 'GAUGE = "gauge"' in lines
    [programs] = [line for line in lines if line.startswith("PROGRAMS = (..., ")]
    plugin = folder / "garden/garden/plugin.py"
    add(plugin, ")\n\nplugin = ", f", {programs.removeprefix('PROGRAMS = (..., ')[:-1]}")
    return folder / "garden"


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a system that learns with torch."""
    folder = tmp_path_factory.mktemp("new")
    made = new(folder, "letters", "--torch")
    assert made.returncode == 0, made.stderr
    assert "pip install -e . && roomgrad up letters" in made.stdout
    return folder / "letters"


@pytest.mark.parametrize("words", [["format", "--check"], ["check"]])
@pytest.mark.parametrize("project", ["garden", "letters"])
def test_a_project_is_laid_out_as_ruff_would_have_it(
    project: str, words: list[str], request: pytest.FixtureRequest
) -> None:
    """By its own pyproject.toml, with a component that was added."""
    run(request.getfixturevalue(project), "-m", "ruff", *words, ".")


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("project", "files"), [("garden", 16), ("letters", 12)])
def test_a_project_passes_mypy(project: str, files: int, request: pytest.FixtureRequest) -> None:
    """With its own strict settings."""
    printed = run(request.getfixturevalue(project), "-m", "mypy", ".")
    assert f"no issues found in {files} source files" in printed


def test_a_torch_project_has_a_network_of_real_size(letters: Path) -> None:
    """With statistics, random numbers, and integers that have no gradient."""
    run(letters, "-c", OF_REAL_SIZE)


OF_REAL_SIZE = """
from torch import nn
from letters.classifier.handlers import Classifier

network = Classifier()
count = sum(each.numel() for each in network.parameters())
assert 1.9e6 < count < 2.1e6, count
kinds = {type(each) for each in network.modules()}
assert {nn.BatchNorm1d, nn.Dropout, nn.Embedding} <= kinds, kinds
"""


@pytest.mark.timeout(400)
def test_a_torch_project_learns_as_one_process_although_replicas_are_killed(letters: Path) -> None:
    """Its own test says so: three replicas, of which two are killed, on a real server."""
    assert "1 passed" in own_tests(letters)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_test_of_a_torch_project_notices_other_random_numbers(letters: Path) -> None:
    """It fails if one process drops out other units than the replicas."""
    test = letters / "tests/test_letters.py"
    seed = "forward_seed(RUN_SEED, "
    other = test.read_text().replace(seed, "forward_seed(RUN_SEED + 1, ")
    changed = letters / "tests/test_other.py"
    changed.write_text(other)
    try:
        compared = r"(?s)> +assert not \[name for name in learned .*1 failed"
        with pytest.raises(AssertionError, match=compared):
            own_tests(letters, str(changed))
    finally:
        changed.unlink()


@pytest.mark.timeout(180)
def test_a_project_passes_its_own_tests(garden: Path) -> None:
    """On a real server."""
    assert "2 passed" in own_tests(garden)


def test_an_added_component_can_be_called(garden: Path) -> None:
    """Its contract, its plug-in and its handler fit together."""
    run(garden, "-c", CALLS_THE_GAUGE)


CALLS_THE_GAUGE = """
import numpy as np
from garden.contract import GAUGE_ROOM
from garden.gauge.handlers import component
from garden.plugin import plugin
from roomgrad import Message
from roomgrad.testing import call

assert plugin.modules["gauge"] == "garden.gauge"
called = call(component, Message.open(GAUGE_ROOM, np.zeros(3, "<f4")))
assert called.counters == {"received": 1}, called.counters
"""


def test_its_thermostat_goes_on_when_a_batch_is_given_up(garden: Path) -> None:
    """A message that belongs to no batch becomes a dead letter at once, without ten deliveries."""
    run(garden, "-c", GOES_ON)


GOES_ON = """
import numpy as np
from garden.contract import FORWARD, GRADIENT, WARMTH
from garden.thermostat.handlers import component
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


@pytest.mark.parametrize(
    "name", ["", "Home", "a-b", "../x", "9", "json", "numpy", "roomgrad", "tests", "x" * 33]
)
def test_a_name_that_could_not_work_is_refused(tmp_path: Path, name: str) -> None:
    """Among them the names of modules that the system would hide."""
    refused = new(tmp_path, name)
    assert refused.returncode == 2
    assert f"cannot be called {name!r}" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_component_of_a_torch_project_is_added_without_the_flag(tmp_path: Path) -> None:
    """Two things that are made at once are refused."""
    refused = new(tmp_path, "gauge", "--torch", "--system", "garden")
    assert refused.returncode == 2
    assert "--torch makes a system, --system adds a component: one at a time" in refused.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Neither a system nor a component."""
    (tmp_path / "home").mkdir()
    refused = new(tmp_path, "home")
    assert refused.returncode == 2
    assert "home exists: choose another name" in refused.stderr
    assert list((tmp_path / "home").iterdir()) == []
    assert new(tmp_path, "shed").returncode == 0
    refused = new(tmp_path / "shed", "house", "--system", "shed")
    assert refused.returncode == 2
    assert "house exists: choose another name" in refused.stderr


@pytest.mark.parametrize(
    ("name", "system", "error"),
    [
        ("gauge", "shed", "there is no system 'shed' in"),
        ("Gauge", "trebuchet", "component cannot be called 'Gauge'"),
    ],
)
def test_a_component_of_no_system_is_refused(
    tmp_path: Path, name: str, system: str, error: str
) -> None:
    """And one whose name could not be a module."""
    make_checkout(tmp_path)
    refused = new(tmp_path, name, "--system", system)
    assert refused.returncode == 2
    assert error in refused.stderr


def make_checkout(folder: Path) -> None:
    """Make what a checkout of roomgrad has of the trebuchet."""
    package = folder / "shared/roomgrad_trebuchet"
    package.mkdir(parents=True)
    (folder / "services").mkdir()
    for name in ("contract.py", "plugin.py"):
        (package / name).write_text((ROOT / "shared/roomgrad_trebuchet" / name).read_text())


def test_a_component_of_a_checkout_gets_a_folder_of_its_own_container(tmp_path: Path) -> None:
    """Like its neighbors in services/, and the command says where else it has to be named."""
    make_checkout(tmp_path)
    made = new(tmp_path, "wind_gauge", "--system", "trebuchet")
    assert made.returncode == 0, made.stderr
    files = {each.name for each in (tmp_path / "services/wind_gauge").iterdir()}
    assert files == {"README.md", "__main__.py", "handlers.py", "settings.py"}
    handlers = (tmp_path / "services/wind_gauge/handlers.py").read_text()
    for line in (
        "from roomgrad import Component, Context, Message, on\nfrom roomgrad_trebuchet import",
        "    contract.WIND_GAUGE,\n    contract.TREBUCHET,\n    WindGaugeSettings,\n",
    ):
        assert line in handlers
    named = ("contract.py", "plugin.py", "pyproject.toml", "docker-compose.yml", "users.acl")
    assert all(name in made.stdout for name in named)
