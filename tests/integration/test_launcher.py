"""The launcher: components that die are started again, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.local.launcher import Launcher
from tests.waiting import until

WAIT_S = 20.0

# Calls the test, says who it is, and lives until it is told to end: its connection is its life.
CALLER = """
    import os, signal, socket, sys
    line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    def leave(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Linux may send it twice
        line.sendall(b"bye\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else leave)
    print("calling", flush=True)
    line.sendall(f"{os.getpid()}\\n".encode())
    signal.pause()
    signal.pause()
"""


class CallbackServer:
    """Where the processes under test call."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(WAIT_S)
        self.port = self._server.getsockname()[1]

    def answer(self) -> tuple[int, socket.SocketIO]:
        """The pid of the next process that calls, and the line to it."""
        connection, _ = self._server.accept()
        connection.settimeout(WAIT_S)
        line = connection.makefile("rb", buffering=0)
        connection.close()
        return int(line.readline()), line

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def callbacks() -> Iterator[CallbackServer]:
    """Closed at the end."""
    callbacks = CallbackServer()
    yield callbacks
    callbacks.close()


@pytest.fixture
def child_command(tmp_path: Path, callbacks: CallbackServer) -> Callable[..., list[str]]:
    """The command of a process that calls the test."""
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(CALLER))
    return lambda *words: [sys.executable, str(script), str(callbacks.port), *words]


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """Stopped at the end."""
    said: list[str] = []
    with Launcher(tmp_path, tmp_path / "logs", say=said.append) as launcher:
        yield launcher


def test_a_killed_process_is_started_again(
    launcher: Launcher, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """kill -9 is nothing that a component has to survive itself."""
    launcher.start_command("child_command-0", child_command())
    first, line = callbacks.answer()
    with line:
        os.kill(first, signal.SIGKILL)
        second, again = callbacks.answer()
    with again:
        assert second != first
        assert launcher.pids() == {"child_command-0": second}
        assert launcher.restarts == 1


def test_a_process_that_ends_by_itself_is_started_again(
    launcher: Launcher, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """A component that was asked to end from elsewhere is still wanted."""
    launcher.start_command("child_command-0", child_command())
    first, line = callbacks.answer()
    with line:
        os.kill(first, signal.SIGTERM)
        assert line.readline() == b"bye\n"
        second, again = callbacks.answer()
    again.close()
    assert second != first


def test_a_program_that_may_end_is_started_again_only_after_an_error(
    tmp_path: Path, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """With exit code 0 it is done; whatever else ends it, it is still wanted."""
    said: list[str] = []
    with Launcher(tmp_path, tmp_path / "logs", say=said.append) as launcher:
        launcher.start_command("child_command", child_command(), may_end=True)
        first, line = callbacks.answer()
        with line:
            os.kill(first, signal.SIGKILL)
            second, again = callbacks.answer()
        with again:
            os.kill(second, signal.SIGTERM)
            assert again.readline() == b"bye\n"
        until(lambda: "child_command is done" in said)
        assert launcher.restarts == 1
        assert launcher.pids() == {}


def test_stop_lets_every_process_finish(
    launcher: Launcher, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """Each is asked, says goodbye, and is gone when stop returns."""
    launcher.start_command("child_command-0", child_command())
    launcher.start_command("child_command-1", child_command())
    calls = [callbacks.answer(), callbacks.answer()]
    launcher.stop()
    for _, line in calls:
        with line:
            assert line.readline() == b"bye\n"
            assert line.readline() == b""
    assert launcher.pids() == {}
    assert launcher.restarts == 0


def test_a_process_that_does_not_finish_is_killed(
    launcher: Launcher, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """Stopping takes as long as it may, and no longer."""
    launcher.start_command("deaf-0", child_command("deaf"))
    _, line = callbacks.answer()
    launcher.stop(timeout_s=0.1)
    with line:
        assert line.readline() == b""


def test_output_stands_in_the_log_of_the_process(
    launcher: Launcher, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """Whoever wonders what a component said finds it by the component's name."""
    launcher.start_command("child_command-0", child_command())
    callbacks.answer()[1].close()
    assert launcher.log_path("child_command-0").read_text() == "calling\n"


def test_a_settings_error_is_final_and_its_sentence_is_kept(launcher: Launcher) -> None:
    """Starting again cannot help against a wrong setting."""
    script = "import sys; print('--steps is 0', file=sys.stderr); sys.exit(2)"
    launcher.start_command("wrong-0", [sys.executable, "-c", script])
    with pytest.raises(SettingsError, match="--steps is 0"):
        launcher.wait_failed(WAIT_S)
    assert launcher.restarts == 0


def test_a_process_that_never_gets_up_is_given_up(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names it, its log and the last that it said."""
    monkeypatch.setattr("roomgrad.local.launcher.LONGEST_PAUSE_S", 0.01)
    monkeypatch.setattr("roomgrad.local.launcher.FIRST_PAUSE_S", 0.01)
    launcher.start_command("broken-0", [sys.executable, "-c", "import nowhere"])
    with pytest.raises(RoomgradError, match=r"broken-0 ended .*No module named 'nowhere'"):
        launcher.wait_failed(WAIT_S)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children")
def test_processes_end_with_a_killed_launcher(
    tmp_path: Path, callbacks: CallbackServer, child_command: Callable[..., list[str]]
) -> None:
    """Nobody has to look for what a killed command left behind."""
    script = f"""
        import pathlib, signal, sys
        sys.path[:] = {sys.path!r}
        from roomgrad.local.launcher import Launcher
        launcher = Launcher(pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(tmp_path)!r}))
        launcher.start_command("child_command-0", {child_command()!r})
        signal.pause()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command) as parent:
        _, line = callbacks.answer()
        parent.kill()
    with line:
        assert line.readline() == b"bye\n"
        assert line.readline() == b""


def test_a_log_that_becomes_too_long_is_begun_anew(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its process writes on into it: a component that runs for months fills no disk."""
    monkeypatch.setattr("roomgrad.log.MAX_BYTES", 20_000)
    monkeypatch.setattr("roomgrad.local.launcher.LOGS_EVERY", 1)
    words = "import time\nfor n in range(10**9): print(n, 'x' * 999, flush=True); time.sleep(0.001)"
    launcher.start_command("talker", [sys.executable, "-c", words])
    path = launcher.log_path("talker")
    old = path.with_suffix(".log.1")
    until(lambda: old.exists() and old.read_text().startswith("0 xxx"), timeout_s=WAIT_S)
    until(lambda: not old.read_text().startswith("0 xxx"), timeout_s=WAIT_S)
    assert old.stat().st_size + path.stat().st_size < 2_000_000
    assert launcher.restarts == 0
