"""The health of a process: what `roomgrad health` finds, and what a probe of a container reads."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from roomgrad import Component, Message, MessageType, Room, RuntimeSettings, Stream, System, on
from roomgrad.clock import server_time
from roomgrad.errors import NoServer, RoomgradError, SettingsError
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.server import connect
from roomgrad.runtime import health_file
from roomgrad.runtime.health import check
from roomgrad.runtime.health_file import AWAY, FAILED, WELL, Health, health_of, renewed, worst
from roomgrad.runtime.identity import Identity
from roomgrad.runtime.status import Lost, Status
from roomgrad.testing import running, throwaway_server
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "shared/bin/roomgrad-probe"
ROOM = Room("room")
SYSTEM = System("checked", (Stream(ROOM, MessageType.CUSTOM, {}, ("idler",)),), ("idler",))
NOWHERE = "redis://:secret@127.0.0.1:1/0"
NAMES = Names("health-check")
CHECKS, MOST_CPU_S = 20, 0.05


@on(ROOM, MessageType.CUSTOM)
def ignore(_message: Message, _context: object) -> None:
    """Handle a message by doing nothing."""


IDLER = Component("idler", SYSTEM, RuntimeSettings, [ignore])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a health file."""
    return tmp_path / "health"


def probe(file: Path | str, *words: str) -> tuple[int, str]:
    """Return the exit code of a probe, and what it printed."""
    given = {"PATH": os.environ["PATH"], "COMPONENT": "idler", "ROOMGRAD_HEALTH_FILE": str(file)}
    done = subprocess.run(
        [PROBE, *words], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


# in Redis


def test_a_component_is_healthy_while_it_runs_here(embedded_url: str) -> None:
    """Once it has left, or on another host, there is no heartbeat."""
    with connect(embedded_url) as client:
        with running(IDLER, RuntimeSettings(run=NAMES.run), embedded_url) as replica:
            until(lambda: client.exists(NAMES.alive(replica.consumer)))
            assert check("idler", NAMES.run, embedded_url) == "idler is well."
        with pytest.raises(RoomgradError, match="no heartbeat of idler"):
            check("idler", NAMES.run, embedded_url, patient=True)


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_clock_that_disagrees_with_the_servers_does_no_harm(
    embedded_url: str, file: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """The replica believes that it is an hour earlier or later than the check does."""
    real = time.time
    with (
        connect(embedded_url) as client,
        monkeypatch.context() as ahead,
        running(IDLER, RuntimeSettings(run=NAMES.run), embedded_url) as replica,
    ):
        ahead.setattr(time, "time", lambda: real() + ahead_s)
        until(lambda: replica.health().state == WELL)
        with renewed(str(file), replica.health):
            assert probe(file) == (0, "idler is well.\n")
        ahead.undo()
        assert check("idler", NAMES.run, embedded_url) == "idler is well."
        [beat] = heartbeats.find(client, NAMES)
        assert beat.turn == pytest.approx(server_time(client), abs=60)
        assert beat.started == pytest.approx(server_time(client), abs=60)


def test_a_server_that_does_not_answer_fails_unless_the_check_is_patient() -> None:
    """Neither sentence contains the password."""
    with pytest.raises(NoServer, match=r"^no server answers at redis://:\*\*\*@127.0.0.1:1/0"):
        check("trainer", NAMES.run, NOWHERE)
    said = check("trainer", NAMES.run, NOWHERE, patient=True)
    assert said.startswith("trainer waits for its server")
    assert "secret" not in said


# of a container


def test_a_probe_costs_at_most_50_ms_of_cpu(file: Path) -> None:
    """Whatever it finds. A check that starts a Python costs five times as much."""
    with renewed(str(file), lambda: Health(WELL, "idler is well.")):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(CHECKS):
            assert probe(file) == (0, "idler is well.\n")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert spent_s / CHECKS <= MOST_CPU_S


def test_a_replica_is_well_until_it_ends(embedded_url: str, file: Path) -> None:
    with running(IDLER, RuntimeSettings(run=NAMES.run), embedded_url) as replica:
        with renewed(str(file), replica.health):
            until(lambda: probe(file) == (0, "idler is well.\n"))
            assert probe(file, "--patient")[0] == 0
        assert not file.exists()
    code, said = probe(file, "--patient")
    assert (code, said.startswith(f"idler has no health file {file}")) == (1, True)


def test_a_server_that_is_away_fails_only_readiness(file: Path) -> None:
    """To start the component again would help nothing. Afterwards it is well."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(throwaway_server()).url
        client = stack.enter_context(connect(url))
        replica = stack.enter_context(running(IDLER, RuntimeSettings(run=NAMES.run), url))
        stack.enter_context(renewed(str(file), replica.health))
        until(lambda: probe(file)[0] == 0)
        client.replicaof("127.0.0.1", 1)  # it refuses to write
        until(lambda: probe(file)[0] == 1)
        code, said = probe(file, "--patient")
        assert (code, said.startswith("idler waits for its server: ")) == (0, True)
        client.replicaof("NO", "ONE")
        until(lambda: probe(file) == (0, "idler is well.\n"))


def test_a_replica_that_found_no_server_yet_is_waited_for(file: Path) -> None:
    """Its sentence has the reason, and no password."""
    with (
        running(IDLER, RuntimeSettings(run=NAMES.run), NOWHERE) as replica,
        renewed(str(file), replica.health),
    ):
        until(lambda: probe(file, "--patient")[0] == 0)
        code, said = probe(file)
    assert code == 1
    assert said.startswith("idler waits for its server: ")
    assert "Connection refused" in said
    assert "secret" not in said


AGO_S = health_file.STUCK_S + 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"turn": 0, "sent": 0}, (WELL, "idler is well.")),
        ({"turn": 0, "sent": 0, "refused": "OOM"}, (WELL, "idler lives, and waits: OOM.")),
        ({"turn": 0, "sent": 0, "handling": AGO_S}, (WELL, "idler is well.")),
        ({"turn": AGO_S, "sent": 0}, (FAILED, "has not advanced for 61 s, allowed are 10 s")),
        ({"turn": 0, "sent": 0, "handling": 601}, (FAILED, "in one handler for 601 s")),
        ({"turn": 0}, (FAILED, "idler has not joined its run yet")),
        ({"turn": 0, "sent": AGO_S}, (FAILED, "no heartbeat of idler was sent for 61 s")),
        ({"turn": AGO_S, "lost": 0}, (AWAY, "idler waits for its server: gone")),
        ({"turn": AGO_S, "lost": AGO_S}, (FAILED, "has not advanced for 61 s")),
        ({"turn": 0, "unsent": 0}, (AWAY, "idler waits for its server: gone")),
        ({"turn": 0, "sent": AGO_S, "unsent": AGO_S}, (FAILED, "no heartbeat of idler")),
    ],
)
def test_a_loop_or_a_heartbeat_that_stands_still_fails(
    status: dict[str, float | str], expected: tuple[str, str]
) -> None:
    """The numbers are how many seconds ago it was."""
    now = time.monotonic()
    at = {name: now - value for name, value in status.items() if not isinstance(value, str)}
    given = {
        name: Lost(value, "gone") if name in ("lost", "unsent") else value
        for name, value in at.items()
    }
    texts = {name: value for name, value in status.items() if isinstance(value, str)}
    found = health_of(Identity.create(IDLER, RuntimeSettings()), Status(**given, **texts))  # type: ignore[arg-type]
    assert (found.state, expected[1] in found.sentence) == (expected[0], True), found


def test_the_worst_replica_of_a_process_counts() -> None:
    """A process with members of an ensemble has one file."""
    well, away, failed = Health(WELL, "a"), Health(AWAY, "b"), Health(FAILED, "c")
    assert worst([well, away, failed]) == worst([failed, well]) == failed
    assert worst([well, away]) == away
    assert worst([well, Health(WELL, "d")]) == well


def test_a_file_that_is_not_renewed_expires(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process hangs as a whole."""
    monkeypatch.setattr(health_file, "LONGEST_TURN_S", -5.0)
    with renewed(str(file), lambda: Health(WELL, "idler is well.")):
        code, said = probe(file, "--patient")
    assert code == 1
    assert f"idler has not renewed {file} for" in said


@pytest.mark.parametrize(
    ("named", "words", "error"),
    [
        ("", [], "ROOMGRAD_HEALTH_FILE is not set"),
        ("health", ["--patiently"], "expected no argument or --patient, got: --patiently"),
    ],
)
def test_a_wrong_call_has_the_exit_code_2(named: str, words: list[str], error: str) -> None:
    """It is told apart from a component that is not healthy."""
    code, said = probe(named, *words)
    assert (code, error in said) == (2, True)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """When the process starts."""
    path = tmp_path / "nowhere" / "health"
    with (
        pytest.raises(SettingsError, match="name another one in ROOMGRAD_HEALTH_FILE"),
        renewed(str(path), lambda: Health(WELL, "")),
    ):
        pass


@contextlib.contextmanager
def started(module: str, file: Path, **given: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program of roomgrad as a process with a health file."""
    own = {"ROOMGRAD_HEALTH_FILE": str(file), **given}
    process = subprocess.Popen([sys.executable, "-m", module], env={**os.environ, **own})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    ("module", "well"),
    [
        ("roomgrad_hello.world", "world is well.\n"),
        ("roomgrad_swergio.gateway", "gateway is well.\n"),
        ("roomgrad.web.dashboard", "is well.\n"),
        ("roomgrad_melody.labelling", "labelling is well.\n"),
    ],
)
def test_every_program_with_a_probe_has_a_health_file(
    embedded_url: str, file: Path, module: str, well: str
) -> None:
    """Components, the gateway, and pages."""
    given = {"ROOMGRAD_REDIS_URL": embedded_url, "ROOMGRAD_RUN": NAMES.run}
    if "gateway" in module:
        given["ROOMGRAD_PORT"] = "0"
    with started(module, file, **given):
        until(lambda: probe(file)[1].endswith(well))
    assert not file.exists()


def test_a_gateway_without_a_server_is_waited_for(file: Path) -> None:
    given = {"ROOMGRAD_REDIS_URL": NOWHERE, "ROOMGRAD_RUN": NAMES.run, "ROOMGRAD_PORT": "0"}
    with started("roomgrad_swergio.gateway", file, **given):
        until(lambda: probe(file, "--patient") == (0, "gateway waits for its server\n"))
        assert probe(file)[0] == 1


@pytest.mark.slow
def test_a_process_that_hangs_is_noticed(embedded_url: str, file: Path) -> None:
    """It is stopped by a signal, and goes on."""
    given = {"ROOMGRAD_REDIS_URL": embedded_url, "ROOMGRAD_RUN": "hangs"}
    with started("roomgrad_hello.world", file, **given) as process:
        until(lambda: probe(file)[0] == 0)
        process.send_signal(signal.SIGSTOP)
        until(lambda: probe(file, "--patient")[0] == 1)
        process.send_signal(signal.SIGCONT)
        until(lambda: probe(file)[0] == 0)
