"""Starts components as processes and starts those again that die."""

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

from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.local import children, project
from roomgrad.log import shorten

log = structlog.get_logger()

SETTINGS_ERROR = 2  # the exit code with which starting again cannot help
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
STEADY_S = 10.0  # who lived that long starts again without a pause
FAILURES = 8  # exits with an error in a row after which a component is given up
STOP_S = 10.0
LOOK_S = 0.05  # between two looks at the processes
LOGS_EVERY = 100  # looks, until the lengths of their logs are looked at


@dataclass
class Child:
    """One replica of a component, and the process in which it lives now."""

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
    """Supervises the processes of one run; usable as a context manager.

    On Linux the processes end with the launcher even when that is killed. Elsewhere they live on
    then, until their server is gone.
    """

    root: Path
    """The folder in which they run: the one with `services/`."""

    directory: Path
    """Where the log of each goes."""

    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables that they get on top of those of this process."""

    say: Callable[[str], object] = log.warning
    """Told what happens to them."""

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
    ) -> None:
        """Start a component, `replicas` times, as `python -m services.<component>`."""
        command = [sys.executable, "-m", project.module_of(component), *flags]
        for index in range(replicas):
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
        """Start any program under this name, with variables of its own on top of all others.

        folder: the one in which it runs, if not in that of the launcher.
        may_end: it is done when it ends with exit code 0, and not started again.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
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
        """Raises the error because of which a component cannot be started again, if any."""
        if self._error is not None:
            raise self._error

    def wait_failed(self, timeout_s: float) -> None:
        """As `check`, but waits for such an error first."""
        self._failed.wait(timeout_s)
        self.check()

    def pids(self) -> dict[str, int]:
        """The processes that live now, by name."""
        with self._lock:
            running = [child for child in self._children if child.process is not None]
            return {each.name: each.process.pid for each in running if each.process is not None}

    def log_path(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Ask every process to finish, wait, and kill what is still there after `timeout_s`."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._signal(signal.SIGTERM)
        until = time.monotonic() + timeout_s
        for child in self._children:
            if child.process is not None and not _ended(child.process, until - time.monotonic()):
                self.say(f"{child.name} did not finish in time and is killed")
                child.process.kill()
                child.process.wait()
            child.process = None

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _supervise(self) -> None:
        looks = 0
        while not self._stopped.wait(LOOK_S):
            looks += 1
            with self._lock:
                if looks % LOGS_EVERY == 0:
                    self._shorten_logs()
                for child in self._children:
                    try:
                        self._look_after(child)
                    except OSError as error:
                        self._fail(RoomgradError(f"{child.name} cannot be started: {error}"))

    def _shorten_logs(self) -> None:
        for child in self._children:
            with contextlib.suppress(OSError):  # a full disk is no reason to stop looking
                shorten(self.log_path(child.name))

    def _look_after(self, child: Child) -> None:
        if child.process is not None and child.process.poll() is not None:
            self._bury(child, child.process.returncode)
        elif child.process is None and not child.done and self._may_start(child):
            self.restarts += 1
            self._spawn(child)

    def _may_start(self, child: Child) -> bool:
        return self._error is None and time.monotonic() >= child.due

    def _bury(self, child: Child, code: int) -> None:
        child.process = None
        if code == 0 and child.may_end:
            child.done = True
            self.say(f"{child.name} is done")
            return
        lived_s = time.monotonic() - child.started
        words = last_words(self.log_path(child.name))
        if code == SETTINGS_ERROR:
            self._fail(SettingsError(words))
            return
        child.failures = child.failures + 1 if code > 0 and lived_s < STEADY_S else 0
        if child.failures >= FAILURES:
            self._fail(
                RoomgradError(
                    f"{child.name} ended {FAILURES} times in a row with exit code {code}; its log "
                    f"{self.log_path(child.name)} ends with: {words}"
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
        with open(self.log_path(child.name), "ab") as output:
            child.process = subprocess.Popen(
                children.bound_to_parent(child.command),
                cwd=child.folder or self.root,
                env=self._environ_of(child),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A session of its own, so that Ctrl+C in the terminal reaches only the launcher.
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


def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    try:
        process.wait(max(timeout_s, 0.0))
    except subprocess.TimeoutExpired:
        return False
    return True


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def last_words(path: Path) -> str:
    """The last line of a log: the sentence of an error, or the event of a JSON line."""
    lines = path.read_text(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "nothing"
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(last)["event"])
    return last.removeprefix("error: ")
