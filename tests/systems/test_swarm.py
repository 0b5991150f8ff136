"""`roomgrad up swarm.yaml`: programs of one's own, started from a file and supervised."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.testing import throwaway_server
from tests.pages.melody.labelling_run import free_port
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]

SWARM = """
components:
  first:  {filepath: first.py, delay: 0.5}
  second: {filepath: second.py}
  ending: {filepath: ending.py}
"""

# Writes down who it is, in the folder where it runs, and waits.
LASTING = """
import os, signal, sys
with open(os.path.basename(__file__) + ".pids", "a") as file:
    file.write(f"{os.getpid()}\\n")
signal.pause()
"""

ENDING = """
import os
with open("ending.runs", "a") as file:
    file.write(os.environ["RUN"] + " " + os.environ["REDIS_URL"] + "\\n")
"""

WRONG = "import sys; sys.stderr.write('--speed is missing\\n'); sys.exit(2)"

# Goes on once the first has written down who it is: it is stopped as soon as the other ends.
AFTER_FIRST = """
import os, time
while not (os.path.exists("first.py.pids") and os.path.getsize("first.py.pids")):
    time.sleep(0.005)
"""

# Says whether it could connect at once.
CONNECTING = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", {port})).close()
    said = "connected"
except OSError:
    said = "refused"
print(said)
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with throwaway_server() as server:
        yield server


@pytest.fixture
def roomgrad(server: EmbeddedServer, tmp_path: Path) -> Iterator[Command]:
    """The command, in a folder of the test; what it has brought up is down at the end."""
    paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    here = {"ROOMGRAD_STATE": str(tmp_path / "state"), "REDIS_URL": server.url}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "roomgrad", *words],
            env={**os.environ, **here, "PYTHONPATH": paths},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    yield command
    command("down", "swarm.yaml")


def write(folder: Path, swarm: str, **programs: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in programs.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "swarm.yaml").write_text(swarm)
    return folder


def pids(folder: Path, name: str, count: int = 1) -> list[int]:
    """The processes that a lasting program has had, once there are so many."""
    path = folder / f"{name}.py.pids"
    until(lambda: path.exists() and len(path.read_text().splitlines()) >= count)
    return [int(line) for line in path.read_text().splitlines()]


def test_a_swarm_is_started_in_order_supervised_and_stopped(
    roomgrad: Command, server: EmbeddedServer, tmp_path: Path
) -> None:
    """Whoever is killed starts again, whoever ends with 0 is done, and nobody is left behind."""
    here = write(tmp_path / "mine", SWARM, first=LASTING, second=LASTING, ending=ENDING)
    up = roomgrad("up", "mine/swarm.yaml")
    assert up.returncode == 0, up.stderr
    assert "swarm is up" in up.stdout
    assert "state/swarm: first.log, second.log, ending.log" in up.stdout
    [first], [second] = pids(here, "first"), pids(here, "second")
    waited_s = psutil.Process(second).create_time() - psutil.Process(first).create_time()
    assert waited_s > 0.45  # to a hundredth, as the system keeps it

    os.kill(second, signal.SIGKILL)
    again = pids(here, "second", count=2)[1]
    log = tmp_path / "state" / "swarm" / "supervisor.log"
    until(lambda: "ending is done" in log.read_text())
    assert "nothing was changed" in roomgrad("up", "mine/swarm.yaml").stdout

    down = roomgrad("down", "mine/swarm.yaml")
    assert "swarm is down" in down.stdout, down.stderr
    assert not psutil.pid_exists(first)
    assert not psutil.pid_exists(again)
    assert (here / "ending.runs").read_text() == f"swarm {server.url}\n"
    assert "swarm is not up" in roomgrad("down", "mine/swarm.yaml").stdout


def test_only_some_are_started(roomgrad: Command, tmp_path: Path) -> None:
    """The others need not even be there."""
    here = write(tmp_path, SWARM, second=LASTING)
    up = roomgrad("up", "swarm.yaml", "--only", "second", "--run", "half")
    assert up.returncode == 0, up.stderr
    assert pids(here, "second")
    assert "down swarm.yaml --run half" in up.stdout
    assert "half is down" in roomgrad("down", "swarm.yaml", "--run", "half").stdout


def test_two_files_of_one_name_are_not_taken_for_each_other(
    roomgrad: Command, tmp_path: Path
) -> None:
    """The second needs another name, and is told so."""
    for name in ("mine", "yours"):
        write(tmp_path / name, "components: {first: {filepath: first.py}}", first=LASTING)
    assert roomgrad("up", "mine/swarm.yaml").returncode == 0
    second = roomgrad("up", "yours/swarm.yaml")
    assert second.returncode == 1
    assert "mine/swarm.yaml, not " in second.stderr
    assert "--run" in second.stderr


def test_what_ends_a_swarm_while_it_starts_is_the_error_of_up(
    roomgrad: Command, tmp_path: Path
) -> None:
    """Also during the delays, and then nothing is up."""
    swarm = "components: {first: {filepath: first.py}, wrong: {filepath: wrong.py, delay: 60}}"
    here = write(tmp_path, swarm, first=LASTING, wrong=AFTER_FIRST + WRONG)
    up = roomgrad("up", "swarm.yaml")
    assert up.returncode == 2
    assert up.stderr == "roomgrad: --speed is missing\n"
    assert not psutil.pid_exists(pids(here, "first")[0])


def test_what_ended_a_swarm_later_is_said_by_down(roomgrad: Command, tmp_path: Path) -> None:
    """Nobody looks when a program in the background cannot go on."""
    program = f"import os\nos.mkfifo('go')\nopen('go').read()\n{WRONG}"
    write(tmp_path, "components: {wrong: {filepath: wrong.py}}", wrong=program)
    assert roomgrad("up", "swarm.yaml").returncode == 0
    until((tmp_path / "go").exists)
    (tmp_path / "go").write_text("go")
    state = tmp_path / "state" / "swarm" / "launcher.json"
    until(lambda: "--speed is missing" in state.read_text())
    ended = until(lambda: "not up" in (text := roomgrad("down", "swarm.yaml").stdout) and text)
    assert "It had ended by itself: --speed is missing" in ended


def test_the_gateway_of_a_swarm_listens_before_the_first_program_starts(
    roomgrad: Command, tmp_path: Path
) -> None:
    """Clients of swergio try once; its run is named after the file."""
    port = free_port()
    swarm = "components: {first: {filepath: first.py}, second: {filepath: second.py}}"
    write(tmp_path, swarm, first=CONNECTING.format(port=port), second=LASTING)
    up = roomgrad("up", "swarm.yaml", "--gateway", str(port))
    assert up.returncode == 0, up.stderr
    assert f"swergio clients connect to 127.0.0.1:{port}" in up.stdout
    log = tmp_path / "state" / "swarm" / "first.log"
    assert until(log.read_text) == "connected\n"
    assert roomgrad("health", "gateway", "--run", "swarm").returncode == 0
    assert roomgrad("down", "swarm.yaml").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
