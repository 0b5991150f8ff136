"""The health check of a container: what it prints, its exit code, and how little it imports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roomgrad import Component, Message, MessageType, Room, RuntimeSettings, Stream, System, on
from roomgrad.clock import server_time
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.server import connect
from roomgrad.testing import running
from tests.waiting import until

ROOM = Room("room")
SYSTEM = System("checked", (Stream(ROOM, MessageType.CUSTOM, {}, ("idler",)),), ("idler",))
NOWHERE = "redis://:secret@127.0.0.1:1/0"
NAMES = Names("health-check")


@on(ROOM, MessageType.CUSTOM)
def ignore(_message: Message, _context: object) -> None:
    """Handle a message by doing nothing."""


IDLER = Component("idler", SYSTEM, RuntimeSettings, [ignore])


def health(*words: str, python: tuple[str, ...] = (), **given: str) -> tuple[int, str, str]:
    """Return the exit code of a check and what it printed to stdout and stderr."""
    variables = {"RUN": NAMES.run, "REDIS_URL": NOWHERE, **given}
    command = [sys.executable, *python, "-m", "roomgrad.runtime.health", *words]
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def test_a_component_is_healthy_while_it_runs_here(embedded_url: str) -> None:
    """Once it has left, or on another host, there is no heartbeat."""
    with connect(embedded_url) as client:
        with running(IDLER, RuntimeSettings(run=NAMES.run), embedded_url) as replica:
            until(lambda: client.exists(NAMES.alive(replica.consumer)))
            assert health("idler", REDIS_URL=embedded_url) == (0, "idler is well.\n", "")
            assert health(REDIS_URL=embedded_url, COMPONENT="idler")[0] == 0
        code, _, stderr = health("idler", "--patient", REDIS_URL=embedded_url)
    assert code == 1
    assert "no heartbeat of idler" in stderr


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_clock_that_disagrees_with_the_servers_does_no_harm(
    embedded_url: str, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """The replica believes that it is an hour earlier or later than the check does."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    with (
        connect(embedded_url) as client,
        running(IDLER, RuntimeSettings(run=NAMES.run), embedded_url) as replica,
    ):
        until(lambda: client.exists(NAMES.alive(replica.consumer)))
        assert health("idler", REDIS_URL=embedded_url) == (0, "idler is well.\n", "")
        [beat] = heartbeats.find(client, NAMES)
        assert beat.turn == pytest.approx(server_time(client), abs=60)
        assert beat.started == pytest.approx(server_time(client), abs=60)


def test_a_server_that_does_not_answer_fails_unless_the_check_is_patient() -> None:
    """Neither output contains the password."""
    code, _, stderr = health("trainer")
    assert code == 1
    assert stderr.startswith("trainer: no server answers at redis://:***@127.0.0.1:1/0")
    code, stdout, _ = health("trainer", "--patient")
    assert code == 0
    assert stdout.startswith("trainer waits for its server")
    assert "secret" not in stdout + stderr


@pytest.mark.parametrize(
    ("words", "given", "error"),
    [
        (["stranger"], {"RUN": ""}, "name the run that it serves in ROOMGRAD_RUN"),
        (["trainer"], {"HANDLER_TIMEOUT_S": "long"}, "HANDLER_TIMEOUT_S is 'long', expected"),
        (["trainer", "--patiently"], {}, "unrecognized arguments"),
        ([], {"COMPONENT": ""}, "name a component, or set COMPONENT"),
    ],
)
def test_wrong_settings_have_the_exit_code_2(
    words: list[str], given: dict[str, str], error: str
) -> None:
    """They are told apart from a component that is not healthy."""
    code, _, stderr = health(*words, **given)
    assert code == 2
    assert error in stderr


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    """A secret that is not mounted."""
    code, _, stderr = health("trainer", REDIS_PASSWORD_FILE=str(tmp_path / "password"))
    assert code == 1
    assert str(tmp_path / "password") in stderr


def test_a_check_imports_neither_the_command_line_nor_a_system() -> None:
    """Each check starts a Python, so what it imports is the price of a check."""
    _, _, imported = health("trainer", "--patient", python=("-X", "importtime"))
    assert "redis.client" in imported
    for package in ("typer", "rich", "yaml", "numpy", "pydantic", "structlog", "opentelemetry"):
        assert f" {package}\n" not in imported
    assert "roomgrad_trebuchet" not in imported
