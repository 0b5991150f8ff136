"""`roomgrad WORDS` in a process of its own, which `tests.fork_server` starts fast."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONPATH = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])


def roomgrad(
    *words: str,
    environ: Mapping[str, str | None] | None = None,
    cwd: Path = ROOT,
    typed: str = "",
    timeout_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends, and return its exit status and what it printed.

    Args:
        environ: Variables to add to those of the test, or with the value None to take away.
        cwd: The folder in which it runs.
        typed: What it reads from stdin.
        timeout_s: After so many seconds it is killed, and `subprocess.TimeoutExpired` is raised.

    """
    variables = {**os.environ, "PYTHONPATH": PYTHONPATH, **(environ or {})}
    known = {name: value for name, value in variables.items() if value is not None}
    request = {"words": words, "environ": known, "cwd": str(cwd)}
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        files[0].write(typed)
        files[0].seek(0)
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(timeout_s)
        connection.connect(_address())
        descriptors = [file.fileno() for file in files]
        socket.send_fds(connection, [json.dumps(request).encode()], descriptors)
        status = _status(connection, ["roomgrad", *words], timeout_s)
        printed = []
        for file in files[1:]:
            file.seek(0)
            printed.append(file.read())
    return subprocess.CompletedProcess(["roomgrad", *words], status, *printed)


def _status(connection: socket.socket, command: list[str], timeout_s: float) -> int:
    """Wait for the end of a command, and return its exit status."""
    with connection.makefile() as lines:
        child = int(lines.readline())
        try:
            return int(lines.readline())
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout_s) from None


@cache
def _address() -> str:
    """Start the server once for each process of pytest, and return its address."""
    folder = tempfile.mkdtemp(prefix="roomgrad-fork-")
    address = os.path.join(folder, "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(listener.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        os.unlink(address)
        os.rmdir(folder)

    atexit.register(end)
    return address
