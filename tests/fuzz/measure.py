"""Run inputs through a target, and record crashes, the slowest input and the memory used."""

from __future__ import annotations

import hashlib
import signal
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

import psutil

from tests.fuzz.targets import Target

HANGS_S = 30  # an input that takes so long is a crash, too
LOOK_EVERY = 500  # inputs between two looks at the memory
SHOWN = 20  # crashes that are kept, each of another place


class Hangs(Exception):
    """Raised inside a target that does not return."""


@dataclass
class Account:
    """The results of one target. Times are CPU times, as the machine may be shared."""

    name: str
    inputs: int = 0
    taken: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    slowest: bytes = b""
    most_bytes: int = 0
    """Growth of resident memory since the start."""

    crashes: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """One input and its traceback per location."""

    crashed: int = 0


class Measure:
    """Run the inputs of one target."""

    def __init__(self, target: Target) -> None:
        self.account = Account(target.name)
        self._target = target
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        signal.signal(signal.SIGALRM, _hangs)

    def run(self, data: bytes) -> None:
        """Run one input."""
        account = self.account
        account.inputs += 1
        error, took_s = self._read(data)
        if error is None:
            account.taken += 1
        elif isinstance(error, self._target.allowed):
            account.refused += 1
        else:
            self._crashed(data, error)
        if took_s > account.slowest_s:  # other programs only add to it
            took_s = min(took_s, *(self._read(data)[1] for _ in range(2)))
        if took_s > account.slowest_s:
            account.slowest_s, account.slowest = took_s, data
        if account.inputs % LOOK_EVERY == 0 or len(data) > 100_000:
            grown = self._process.memory_info().rss - self._before
            account.most_bytes = max(account.most_bytes, grown)

    def _read(self, data: bytes) -> tuple[Exception | None, float]:
        """Read an input; return what was raised, and the seconds of CPU that it took."""
        found: Exception | None = None
        signal.alarm(HANGS_S)
        began = time.thread_time()
        try:
            self._target.read(data)
        except Exception as error:
            found = error
        took_s = time.thread_time() - began
        signal.alarm(0)
        return found, took_s

    def _crashed(self, data: bytes, error: Exception) -> None:
        self.account.crashed += 1
        place = f"{type(error).__name__} at {_place(error.__traceback__)}"
        if len(self.account.crashes) < SHOWN:
            text = "".join(traceback.format_exception(error))
            self.account.crashes.setdefault(place, (data, text))


def _place(at: TracebackType | None) -> str:
    """Return the innermost line of a traceback."""
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else "nowhere"


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise Hangs(f"it takes longer than {HANGS_S} s")


def keep(account: Account, folder: Path) -> None:
    """Write the inputs that crashed a target into files, with their tracebacks."""
    for data, text in account.crashes.values():
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha1(data, usedforsecurity=False).hexdigest()[:12]
        (folder / f"{name}.bin").write_bytes(data)
        (folder / f"{name}.txt").write_text(f"{account.name}\n{text}", errors="replace")
