"""Starts components as processes, and restarts those that die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from roomgrad import state
from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.local import children
from roomgrad.log import shorten
from roomgrad.systems import module_of

log = structlog.get_logger()

SETTINGS_ERROR = 2  # the exit code after which a restart cannot help
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
STEADY_S = 10.0  # a process that lived so long is restarted after the shortest pause
FAILURES = 8  # failures in a row after which a component is given up
STOP_S = 10.0
POLL_S = 0.05
LOGS_EVERY = 100  # polls between two checks of the length of the logs


@dataclass
class Child:
    """A program that is kept running, like one replica of a component."""

    name: str
    command: list[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    may_end: bool = False
    done: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pause_s: float = 0.0
    failures: int = 0


@dataclass
class Launcher:
    """Supervises the processes of one run; a context manager that stops them at its end.

    On Linux the processes end with the launcher even if that is killed. Elsewhere they then live
    until their server is gone.
    """

    folder: Path
    """Their current directory."""

    directory: Path
    """Where their logs are written."""

    environ: Mapping[str, str] = field(default_factory=dict)
    """Additional environment variables of all of them."""

    say: Callable[[str], object] = log.warning
    """Called with a sentence when a process ends."""

    system: str = ""
    """The system of the run; empty if the components are of any."""

    restarts: int = 0
    _children: list[Child] = field(default_factory=list)
    _error: RoomgradError | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _failed: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(
        self,
        component: str,
        flags: Sequence[str] = (),
        replicas: int = 1,
        environ: Mapping[str, str] | None = None,
        first: int = 0,
    ) -> None:
        """Start replicas of a component as `python -m MODULE`, with numbers from `first` on.

        Raises SettingsError if no installed system names its module.
        """
        module = module_of(component, self.system)
        if module is None:
            raise SettingsError(f"no installed system names the module of {component!r}")
        # -P: no module is imported from the folder in which the user typed the command.
        command = [sys.executable, "-P", "-m", module, *flags]
        for index in range(first, first + replicas):
            self.start_command(f"{component}-{index}", command, environ)

    def start_command(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        may_end: bool = False,
    ) -> None:
        """Start any program under a name, with additional environment variables.

        folder: its current directory, if not the launcher's.
        may_end: do not restart it when it ends with exit code 0.
        """
        shorten(self.log_path(name))
        with self._lock:
            child = Child(name, list(command), environ or {}, folder, may_end)
            self._spawn(child)
            self._children.append(child)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._supervise, name="launcher", daemon=True
                )
                self._thread.start()

    def check(self) -> None:
        """Raise the error that keeps a component from running, if there is one."""
        if self._error is not None:
            raise self._error

    def wait_failed(self, timeout_s: float) -> None:
        """Wait at most so long for such an error, and raise it."""
        self._failed.wait(timeout_s)
        self.check()

    def pids(self) -> dict[str, int]:
        """Return the IDs of the processes that live now, by name."""
        with self._lock:
            running = [child for child in self._children if child.process is not None]
            return {each.name: each.process.pid for each in running if each.process is not None}

    def log_path(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Send SIGTERM to every process; after `timeout_s` kill those that still live."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._signal(signal.SIGTERM)
        until = time.monotonic() + timeout_s
        for child in self._children:
            if child.process is not None and not _wait(child.process, until - time.monotonic()):
                self.say(f"{child.name} did not finish in time and is killed")
                child.process.kill()
                child.process.wait()
            child.process = None

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _supervise(self) -> None:
        polls = 0
        while not self._stopped.wait(POLL_S):
            polls += 1
            with self._lock:
                if polls % LOGS_EVERY == 0:
                    self._shorten_logs()
                for child in self._children:
                    try:
                        self._keep_running(child)
                    except (OSError, RoomgradError) as error:
                        self._fail(RoomgradError(f"{child.name} cannot be started: {error}"))

    def _shorten_logs(self) -> None:
        for child in self._children:
            with contextlib.suppress(OSError):  # a full disk must not end the supervision
                shorten(self.log_path(child.name))

    def _keep_running(self, child: Child) -> None:
        if child.process is not None and child.process.poll() is not None:
            self._ended(child, child.process.returncode)
        elif child.process is None and not child.done and self._may_start(child):
            self.restarts += 1
            self._spawn(child)

    def _may_start(self, child: Child) -> bool:
        return self._error is None and time.monotonic() >= child.due

    def _ended(self, child: Child, code: int) -> None:
        """Decide whether a process that has ended is restarted, and when."""
        child.process = None
        if code == 0 and child.may_end:
            child.done = True
            self.say(f"{child.name} is done")
            return
        lived_s = time.monotonic() - child.started
        line = last_line(self.log_path(child.name))
        if code == SETTINGS_ERROR:
            self._fail(SettingsError(line))
            return
        child.failures = child.failures + 1 if code > 0 and lived_s < STEADY_S else 0
        if child.failures >= FAILURES:
            self._fail(
                RoomgradError(
                    f"{child.name} ended {FAILURES} times in a row with exit code {code}; its log "
                    f"{self.log_path(child.name)} ends with: {line}"
                )
            )
            return
        longer = min(max(child.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        child.pause_s = FIRST_PAUSE_S if lived_s >= STEADY_S else longer
        child.due = time.monotonic() + child.pause_s
        self.say(f"{child.name} {_how(code)} and is started again")

    def _fail(self, error: RoomgradError) -> None:
        self._error = error
        self._failed.set()

    def _spawn(self, child: Child) -> None:
        with state.opened(self.log_path(child.name), "ab") as output:
            child.process = subprocess.Popen(
                children.bound_to_parent(child.command),
                cwd=child.folder or self.folder,
                env=self._environ_of(child),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # In a session of its own, so that Ctrl+C reaches only the launcher.
                start_new_session=True,
            )
        child.started = time.monotonic()

    def _environ_of(self, child: Child) -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", **self.environ, **child.environ}

    def _signal(self, signal_number: int) -> None:
        for child in self._children:
            if child.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(signal_number)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    try:
        process.wait(max(timeout_s, 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def last_line(path: Path) -> str:
    """Return the last line of a log: the sentence of an error, or the event of a JSON line."""
    lines = path.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "nothing"
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(last)["event"])
    return last.removeprefix("error: ")
