"""The processes of a play: started, killed, frozen, asked to stop, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from roomgrad.local import children

ROOT = Path(__file__).resolve().parents[2]

# The words after `python -m` for a component.
Program = Callable[[str], list[str]]


class Processes:
    """Some replicas of each component, by the names `learner-1`, `learner-2`, ..."""

    def __init__(self, program: Program, components: Sequence[str], replicas: int, logs: Path):
        self._program = program
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.names = [f"{name}-{n}" for n in range(1, replicas + 1) for name in components]
        self.unexpected: list[str] = []

    def start(self, *names: str) -> None:
        """Starts those that are named, or all."""
        paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
        for name in names or self.names:
            self.note(f"start {name}")
            command = [sys.executable, "-m", *self._program(name.partition("-")[0])]
            with (self._logs / f"{name}.log").open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    children.bound_to_parent(command),
                    cwd=ROOT,
                    env={**os.environ, "PYTHONPATH": paths, "ROOMGRAD_LOG_FORMAT": "json"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )

    def failures(self) -> list[str]:
        """Return the processes that log an error of a handler."""
        logs = {name: self._logs / f"{name}.log" for name in self.names}
        return [name for name, log in logs.items() if b"handler failed" in log.read_bytes()]

    def note(self, text: str) -> None:
        """Writes into `play.log`, beside the logs of the processes, what is done to them."""
        now = datetime.now().isoformat(timespec="milliseconds")
        with (self._logs / "play.log").open("a") as log:
            log.write(f"{now} {text}\n")

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def check(self) -> None:
        """Note and restart the processes that ended by themselves."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
                said = f"{process.returncode}: {lines[-1] if lines else ''}"
                self.unexpected.append(f"{name} ended by itself with {said}")
                self.start(name)

    def killed_itself(self) -> str:
        """The name of a process that ended as by kill -9, or an empty text."""
        ended = (n for n, each in self._processes.items() if each.poll() == -signal.SIGKILL)
        return next(ended, "")

    def kill(self, *names: str) -> float:
        """kill -9 of several at once; answers when."""
        self.note(f"kill -9 {' '.join(names)}")
        for name in names:
            self._processes[name].send_signal(signal.SIGKILL)
        at = time.monotonic()
        for name in names:
            self._processes[name].wait()
        return at

    def freeze(self, name: str) -> float:
        """SIGSTOP; answers when."""
        self.note(f"SIGSTOP {name}")
        self._processes[name].send_signal(signal.SIGSTOP)
        return time.monotonic()

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self.note(f"SIGCONT {name}")
        self._processes[name].send_signal(signal.SIGCONT)

    def terminate(self, name: str, patience_s: float) -> tuple[float, int | None]:
        """SIGTERM: how long it takes to end, and its exit code; None if it does not end."""
        self.note(f"SIGTERM {name}")
        began = time.monotonic()
        process = self._processes[name]
        process.terminate()
        try:
            code: int | None = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        return time.monotonic() - began, code

    def stop(self) -> None:
        """Ends all of them without ceremony."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    def memory_mib(self) -> float:
        """The largest resident memory among the processes."""
        import psutil

        sizes = [psutil.Process(p.pid).memory_info().rss for p in self._processes.values()]
        return float(max(sizes)) / 2**20
