"""A state folder that cannot be used: a sentence with the reason, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.roomgrad_command import PYTHONPATH, roomgrad

# As on a full disk, an opened file takes no byte; SIGXFSZ would end the process instead.
FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
"""
GONE = "import os; os.rmdir(os.getcwd())\n"
MAIN = "import sys; sys.argv[0] = 'roomgrad'; from roomgrad.cli.main import main; main()"
NO_SERVER = {"REDIS_URL": None, "ROOMGRAD_REDIS_URL": None, "HOME": None}


def prepared(words: str, folder: Path, before: str, **environ: str) -> tuple[int, str]:
    """Run a command in a process that has executed `before`."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", before + MAIN, *words.split()],
        cwd=folder,
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "words", ["up trebuchet", "run trebuchet --steps 3", "backup copy.tar", "check simulator"]
)
@pytest.mark.parametrize("state", ["file", "file/below"])
def test_a_state_folder_that_is_none_is_told(words: str, state: str, tmp_path: Path) -> None:
    """Neither can it be made nor written to, by any command that needs one."""
    (tmp_path / "file").write_text("")
    folder = str(tmp_path / state)
    done = roomgrad(*words.split(), environ={**NO_SERVER, "ROOMGRAD_STATE": folder}, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"roomgrad: {folder}/")
    assert done.stderr.count("\n") == 1
    assert "cannot be written (" in done.stderr
    assert "ROOMGRAD_STATE" in done.stderr


@pytest.mark.parametrize("words", ["up trebuchet", "run trebuchet --steps 3"])
def test_a_full_disk_is_told(words: str, tmp_path: Path) -> None:
    """A file is opened, but nothing fits into it."""
    code, said = prepared(words, tmp_path, FULL, ROOMGRAD_STATE=str(tmp_path / "state"))
    assert code == 1
    assert said.startswith("roomgrad: ")
    assert said.count("\n") == 1
    assert "cannot be written (File too large)" in said


@pytest.mark.parametrize("words", ["down", "down trebuchet", "ps", "health trainer", "doctor"])
def test_commands_that_only_look_need_no_state_folder(words: str, tmp_path: Path) -> None:
    """They say that there is no server, or nothing to stop."""
    (tmp_path / "file").write_text("")
    environ = {**NO_SERVER, "ROOMGRAD_STATE": str(tmp_path / "file" / "below")}
    done = roomgrad(*words.split(), environ=environ, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr.startswith("roomgrad: ")


def test_a_current_folder_that_was_deleted_is_told(tmp_path: Path) -> None:
    """The state folder would be in it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    code, said = prepared("ps", gone, GONE)
    assert code == 1
    assert said == "roomgrad: the current folder no longer exists: change to another one by `cd`\n"
