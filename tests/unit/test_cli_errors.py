"""The command line: what is wrong is said in one sentence, with the right exit code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import roomgrad_command


def roomgrad(*words: str, state: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command with no server in sight."""
    environ = {"ROOMGRAD_STATE": str(state), "REDIS_URL": None, "RUN": None}
    return roomgrad_command.roomgrad(*words, environ=environ, cwd=cwd or Path.cwd())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run tribuchet", ["no system 'tribuchet'", "did you mean trebuchet?"]),
        ("run trebuchet --steps 0", ["--steps 0", "whole number from 1 to"]),
        ("run trebuchet --steps many", ["--steps many", "whole number from 1 to"]),
        ("run trebuchet --stops 3", ["No such option", "--steps"]),
        ("run trebuchet --preset best", ["--preset best", "learn or original"]),
        ("run trebuchet --replicas simulater=2", ["simulater", "did you mean simulator?"]),
        ("run trebuchet --replicas simulator=0", ["simulator=0", "from 1 to 64"]),
        ("run trebuchet --steps 1_0", ["--steps 1_0", "whole number"]),
        ("run trebuchet --steps \u0663", ["--steps \u0663", "whole number"]),
        ("run trebuchet --replicas simulator=\u0663", ["simulator=\u0663"]),
        ("run trebuchet --picture shots.gif", ["shots.gif", ".png"]),
        ("run trebuchet --picture nowhere/shots.png", ["nowhere/shots.png", "no folder"]),
        ("run trebuchet --picture docs/trebuchet.png", ["docs/trebuchet.png exists", "--force"]),
        ("run melody --steps 3", ["No such option: --steps", "roomgrad run melody --help"]),
        ("run melody --labels 3", ["--labels belongs to melody with --rater", "not to melody:"]),
        ("run melody --json", ["--json belongs to melody with --rater"]),
        ("run trebuchet --rater simulated", ["No such option: --rater", "run trebuchet --help"]),
        ("run melody --rater simulated --window 2", ["No such option: --window"]),
        ("run melody --rater simulated --labels-file a.csv", ["--labels-file belongs to melody,"]),
        ("run melody --rater simulated --labels 0", ["--labels 0", "whole number from 1 to"]),
        ("run melody --rater simulated --generations 3", ["--generations 3", "13 or more"]),
        ("run melody --rater nobody", ["rater 'nobody'", "module:function"]),
        ("run melody --strategy best", ["--strategy best", "random", "entropy"]),
        ("run melody --replicas simulator=2", ["'simulator'", "labelling, evalnet"]),
        ("up trebuchet --strategy margin", ["No such option: --strategy", "up trebuchet --help"]),
        ("up tribuchet", ["no system 'tribuchet'"]),
        ("up trebuchet --gateway 0", ["--gateway 0", "whole number from 1 to 65535"]),
        ("up trebuchet --only trainer", ["No such option: --only"]),
        ("up trebuchet --replicas trainer=65", ["trainer=65", "from 0 to 64"]),
        ("up swarm.yaml --seed 3", ["No such option: --seed", "up swarm.yaml --help"]),
        ("up swarm.yaml --replicas a=2", ["--replicas a=2", "another entry into swarm.yaml"]),
        ("run swarm.yaml", ["`roomgrad up swarm.yaml`"]),
        ("down melodie", ["no system 'melodie'", "did you mean melody?"]),
        ("labels import nothing.csv --on-conflict ask", ["--on-conflict ask", "error or keep"]),
        ("labels export labels.csv --format xml", ["--format xml", "csv or jsonl or json"]),
        ("labels imprt", ["No such command 'imprt'"]),
        ("melody export --format mp3", ["--format mp3", "midi or wav"]),
        ("melody show 0101", ["'0101' has 4 characters", "128"]),
        ("forget gateway", ["gateway is a component of no system", "--wait-s"]),
        ("walk", ["No such command 'walk'"]),
        ("shoot --wind 3", ["--wind and --target"]),
        ("shoot --wind strong --target 60", ["--wind", "'strong'", "number"]),
    ],
)
def test_a_wrong_command_line_ends_with_one_sentence_and_exit_code_2(
    words: str, said: list[str], tmp_path: Path
) -> None:
    """The sentence names what was typed and what is allowed."""
    ended = roomgrad(*words.split(), state=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert all(word in ended.stderr for word in said), ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        *("health trainer", "forget trainer", "shoot --wind 3 --target 60", "rate"),
        *("health learner", "health unknown", "forget unknown"),
    ],
)
def test_without_a_server_it_says_how_to_start_one(words: str, tmp_path: Path) -> None:
    """It names what it tried and the ways to get a server."""
    ended = roomgrad(*words.split(), state=tmp_path)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    for word in ("REDIS_URL", str(tmp_path), "roomgrad up SYSTEM", "docker compose up"):
        assert word in ended.stderr, ended.stderr


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    """An address may hold a password, and errors end in logs."""
    address = "redis://:secret@127.0.0.1:1/0"
    ended = roomgrad("health", "trainer", "--redis", address, state=tmp_path)
    assert ended.returncode == 1
    assert "redis://:***@127.0.0.1:1/0" in ended.stderr
    assert "secret" not in ended.stderr


def test_health_can_be_patient_with_a_server_that_is_away(tmp_path: Path) -> None:
    """Who is restarted for it could do no more than wait, too."""
    address = "redis://:secret@127.0.0.1:1/0"
    ended = roomgrad("health", "trainer", "--patient", "--redis", address, state=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.startswith("trainer waits for its server")
    assert "secret" not in ended.stdout + ended.stderr


def test_down_without_up_is_no_error(tmp_path: Path) -> None:
    """What is to be stopped is stopped already."""
    ended = roomgrad("down", state=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout == "no run is up; nothing to stop.\n"


def test_down_names_what_is_not_up(tmp_path: Path) -> None:
    ended = roomgrad("down", "melody", state=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "melody is not up; nothing to stop.\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("labels import nowhere.csv", ["nowhere.csv cannot be read"]),
        ("labels import labels.txt", ["labels.txt", ".jsonl"]),
        ("labels export labels.txt", ["labels.txt", ".jsonl"]),
        ("melody import nowhere.mid", ["nowhere.mid cannot be read"]),
        ("up nowhere.yaml", ["nowhere.yaml cannot be read", "name a swarm file"]),
        ("run melody --labels-file nowhere.csv", ["nowhere.csv cannot be read"]),
    ],
)
def test_a_file_that_cannot_be_used_is_named(words: str, said: list[str], tmp_path: Path) -> None:
    """Before anything is started."""
    ended = roomgrad(*words.split(), state=tmp_path)
    assert ended.returncode == 1, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert all(word in ended.stderr for word in said), ended.stderr
    assert not list(tmp_path.iterdir())


def test_outside_of_a_checkout_the_installed_one_is_used(tmp_path: Path) -> None:
    """The command works from any folder."""
    ended = roomgrad("shoot", "--wind", "3", state=tmp_path, cwd=tmp_path)
    assert "--wind and --target" in ended.stderr
