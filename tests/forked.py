"""`python -m MODULE WORDS` as a process that is forked from one which has the libraries imported.

That one has computed nothing, so that each process starts in some hundredths of a second, and
computes with the same kernels as every other.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
FORK_SERVER = multiprocessing.get_context("forkserver")
# What torch.compile imports at its first use takes ten times as long as the use.
COMPILERS = ("_dynamo.testing", "_dynamo.repro.after_aot", "_inductor.compile_fx")
LIBRARIES = ("roomgrad.learning", "roomgrad.runtime.process", *(f"torch.{x}" for x in COMPILERS))
FORK_SERVER.set_forkserver_preload([*LIBRARIES])


PRELOAD = "LD_PRELOAD"
_OWN = {"PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)])}


class Forked:
    """A process of Python that runs a module."""

    def __init__(
        self, module: str, *words: str, environ: Mapping[str, str | None] | None = None
    ) -> None:
        """Start it.

        environ: variables to add to those of the test, or with the value None to take away.
        """
        descriptor, log = tempfile.mkstemp(prefix="roomgrad-", suffix=".log")
        os.close(descriptor)
        self._log = Path(log)
        variables = {**os.environ, **_OWN, **(environ or {})}
        given = {name: value for name, value in variables.items() if value is not None}
        self._process: ForkServerProcess = FORK_SERVER.Process(
            target=_run, args=(module, words, given, log)
        )
        with mock.patch.dict(os.environ):  # the first one starts the server, which serves all tests
            os.environ.pop(PRELOAD, None)
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, below 0 the number of a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end, and return its exit code. Raises TimeoutError."""
        self._process.join(timeout_s)
        if (code := self.poll()) is None:
            raise TimeoutError(f"process {self.pid} runs for more than {timeout_s} s")
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def log(self) -> str:
        """Return what it has written to stderr."""
        return self._log.read_text(errors="replace")

    def lines(self) -> list[str]:
        """Return the lines of that which are complete."""
        return [line for line in self.log().splitlines(keepends=True) if line.endswith("\n")]

    def close(self) -> None:
        """Kill it if it still runs."""
        self.kill()
        self.wait()
        self._log.unlink()


def _run(module: str, words: tuple[str, ...], environ: Mapping[str, str], log: str) -> None:
    """In the process: do what `python -m` does."""
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environ)
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 2)
    if PRELOAD in environ:  # which is done when a program begins
        os.execve(sys.executable, [sys.executable, "-m", module, *words], {**environ})
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
