"""`roomgrad run melody`: by itself with a rater, and for people with its page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from roomgrad.errors import RoomgradError
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from roomgrad_melody.commands import standing, unattended
from roomgrad_melody.commands.options import Unattended

pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--labels", "17", "--seed-labels", "6", "--generations", "7", "--seed", "3"]

Command = Callable[..., list[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture
def environ(server: EmbeddedServer, tmp_path: Path) -> dict[str, str]:
    """The server of these tests, and a folder for logs that is gone afterwards."""
    path = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    here = {"ROOMGRAD_STATE": str(tmp_path / "state"), "REDIS_URL": server.url}
    return {**os.environ, **here, "PYTHONPATH": path}


def roomgrad(*words: str) -> list[str]:
    return [sys.executable, "-m", "roomgrad", *words]


def ended(
    environ: dict[str, str], *words: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """A command that has come to its end."""
    return subprocess.run(roomgrad(*words), env=environ, cwd=cwd, capture_output=True, text=True)


def figures(environ: dict[str, str], *words: str, cwd: Path = ROOT) -> dict[str, Any]:
    """The report of an unattended run."""
    done = ended(environ, "run", "melody", "--json", *words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_as_a_person_it_ends_when_the_last_answer_is_learned(environ: dict[str, str]) -> None:
    """With as many labels as were asked for, however fast they come."""
    person = ["--rater", "simulated", "--as-person", "--pace", "0", "--labels", "5"]
    found = figures(environ, *person)
    assert found["labels"] == 5
    assert found["generations"] == 12
    assert (found["lost"], found["duplicates"], found["dead"]) == (0, 0, 0)


@pytest.mark.slow  # in lockstep, test_melody_exactness.py shows the same in less time
def test_a_seed_repeats_bit_for_bit_on_any_replicas(
    environ: dict[str, str], server: EmbeddedServer
) -> None:
    """Weights and population; of the counts nothing is lost or doubled."""
    simulated = ["--rater", "simulated", *SMALL]
    replicas = ["--replicas", "evalnet=2,learner=2", "--replicas", "evolution=2"]
    first = figures(environ, *simulated, "--run", "first")
    second = figures(environ, *simulated, "--run", "second", *replicas)
    again = figures(environ, *simulated, "--run", "first")  # has nothing left to do
    other = figures(environ, *simulated, "--run", "first", "--fresh", "--seed", "4")

    exact = ("weights_sha256", "population_sha256", "true_mean_rating", "distinct", "mean_rating")
    exact += ("accuracy", "mae", "ece", "training_runs", "steps")
    for name in exact:
        assert first[name] == second[name] == again[name], name
    assert first["weights_sha256"] != other["weights_sha256"]
    assert first["population_sha256"] != other["population_sha256"]
    for report in (first, second, again, other):
        assert (report["labels"], report["generations"]) == (17, 7)
        assert (report["lost"], report["duplicates"], report["dead"]) == (0, 0, 0)
        assert report["restarts"] == 0
        assert 0 < report["accuracy"] < 1
    with closing(connect(server.url)) as client:
        stored = standing.log(client, Names("second"))
        assert [entry["rater"] for entry in stored] == ["file"] * 6 + ["simulated"] * 11
        assert len({entry["melody"] for entry in stored}) == 17
        account = standing.account(client, Names("second"))
        assert (account.lost, account.duplicates) == (0, 0)


RATERS = """
    import sys
    from pathlib import Path

    def bright(genome):  # how many of its notes are high
        assert len(genome) == 128 and set(genome) <= {0, 1}
        high = sum(genome[i + 2] == 1 and genome[i + 3] == 0 for i in range(0, 128, 4))
        return min(high // 4, 5)

    def brighter(genome, other=None):
        if other is None:
            return bright(genome)
        return "first" if sum(genome[2::4]) > sum(other[2::4]) else "second"

    def denser(genome, other):
        return "first" if sum(genome[3::4]) < sum(other[3::4]) else "second"

    def wrong(genome):
        return "loud"

    def asleep(genome):
        if "rater" in sys.argv[0]:
            raise RuntimeError("not now")
        return 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of somebody who wrote raters."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "raters.py").write_text(textwrap.dedent(RATERS))
    return folder


@pytest.mark.slow
def test_a_function_of_ones_own_rates(environ: dict[str, str], folder: Path) -> None:
    """It is found in the folder in which the command is given."""
    report = figures(environ, "--rater", "raters:bright", *SMALL, "--run", "bright", cwd=folder)
    assert (report["labels"], report["rater"], report["lost"]) == (17, "raters:bright", 0)


@pytest.mark.parametrize(
    ("function", "ask"), [("brighter", "both"), ("denser", "pairs"), ("bright", "pairs")]
)
def test_a_function_compares_melodies_as_a_person_does(
    environ: dict[str, str], folder: Path, function: str, ask: str
) -> None:
    """A function of one genome prefers what it rates higher; one of two needs no ratings."""
    words = ["--as-person", "--pace", "0", "--labels", "6", "--ask", ask, "--run", function]
    report = figures(environ, "--rater", f"raters:{function}", *words, cwd=folder)
    assert report["labels"] + report["pairs"] == 6
    assert report["pairs"] == (3 if ask == "both" else 6)
    assert (report["lost"], report["duplicates"], report["dead"]) == (0, 0, 0)
    assert (report["true_mean_rating"] is None) == (function == "denser")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("wrong", ["raters:wrong", "'loud'", "whole number 0 to 5"]),
        ("asleep", ["rater gave up a message", "RuntimeError: not now"]),
    ],
)
def test_a_rater_that_fails_ends_the_run_with_a_sentence(
    environ: dict[str, str], folder: Path, function: str, said: list[str]
) -> None:
    """At once, or where it fails in its process only, as a dead letter."""
    words = ["--rater", f"raters:{function}", *SMALL, "--run", function]
    done = ended(environ, "run", "melody", *words, cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in said), done.stderr


def test_a_run_that_stands_still_ends_with_a_sentence(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where it stands and where the logs are."""
    monkeypatch.setenv("ROOMGRAD_STATE", str(tmp_path))
    monkeypatch.setattr(unattended, "STUCK_S", 0.01)
    options = Unattended(labels=5, seed_labels=5, generations=3)
    with pytest.raises(RoomgradError, match=r"nothing has moved .* generation -1 .*logs in"):
        unattended.run(
            options, options.plan("still"), server.url, fresh=False, console=Console(quiet=True)
        )


def read_page(process: subprocess.Popen[str]) -> str:
    """The address that the command prints, and what is found there."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"Listen and rate: +(http://\S+)", line):
            with urllib.request.urlopen(found[1], timeout=20) as answer:
                return str(answer.read().decode())
    raise AssertionError("the command ended without an address")


def test_people_get_the_address_of_a_page_that_answers(environ: dict[str, str]) -> None:
    """Ctrl+C ends all of it, as the end that it is."""
    process = subprocess.Popen(
        roomgrad("run", "melody"), env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert "<html" in read_page(process).lower()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert "are kept" in rest


def test_it_serves_in_the_background(environ: dict[str, str], tmp_path: Path) -> None:
    """Until `down`; labels to begin with are taken once, and refused for a run that has begun."""
    labels = tmp_path / "labels.csv"
    labels.write_text(f'"({", ".join(["1", "0"] * 64)})",4\n')
    words = ["melody", "--run", "behind", "--labels-file", str(labels)]
    up = ended(environ, "up", *words)
    try:
        assert up.returncode == 0, up.stderr
        assert "Listen and rate:  http://" in up.stdout
        assert "up already" in ended(environ, "up", *words).stdout
        export = ended(environ, "labels", "export", "--run", "behind")
        assert export.stdout == labels.read_text()
    finally:
        down = ended(environ, "down", "--run", "behind")
    assert "behind is down" in down.stdout
    refused = ended(environ, "up", *words)
    assert refused.returncode == 2
    assert "has begun before" in refused.stderr
    assert f"labels import {labels}" in refused.stderr
