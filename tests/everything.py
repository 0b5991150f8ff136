"""All tests, in as little time as two CPUs allow: `make test-all`.

Parts run beside each other where one of them waits: containers and taken away guards wait most of
the time. What only computes gets the time that all others leave (`nice`). What compares durations
comes last, alone. Each part prints into a file of its own; that of one that fails is shown.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "everything"
MAKE = ("make", "--no-print-directory")
WORKERS = ("-n", os.environ.get("WORKERS", "3"), "--dist", "loadgroup")


class Part(threading.Thread):
    """A command that runs; the end of this thread is its own."""

    def __init__(self, name: str, *command: str) -> None:
        super().__init__(name=name)
        self.log = LOGS / f"{name}.log"
        self.began = time.monotonic()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        self.start()

    def run(self) -> None:
        """Wait for its end; print its time and its last line, or all lines if it failed."""
        code = self.process.wait()
        minutes, text = (time.monotonic() - self.began) / 60, self.log.read_text(errors="replace")
        if code:
            print(text)
        last = "".join(text.rstrip().splitlines()[-1:]).strip("= ")
        print(f"{minutes:5.1f} minutes  {self.name}: {last}", flush=True)


def main() -> int:
    """Run all parts, and return 1 if one has failed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    began, parts = time.monotonic(), list[Part]()

    def stop(number: int, _frame: object) -> None:
        for each in parts:
            each.process.send_signal(number)
        raise SystemExit(128 + number)

    def part(name: str, *command: str) -> Part:
        parts.append(Part(name, *command))
        return parts[-1]

    def tests(name: str, marks: str, *words: str) -> Part:
        return part(name, sys.executable, "-m", "pytest", "-m", marks, *words)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    patient = part("patient", "nice", "-n", "19", *MAKE, "model", "schedules")
    part("test", *MAKE, "test", "COUNTED=--cov --cov-report=").join()
    part("floors", *MAKE, "floors").join()
    containers = tests("containers", "slow and docker", "tests/systems")
    revert = part("revert", *MAKE, "revert")
    tests("slow", "slow and not docker and not alone", *WORKERS, "tests").join()
    tests("servers", "slow and docker", *WORKERS, "tests/integration").join()
    for each in (containers, revert, patient):
        each.join()
    tests("alone", "slow and alone", "-n", "2", "tests").join()  # pages that wait for a person
    failed = [each.name for each in parts if each.process.returncode]
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:5.1f} minutes in all: {f'failed: {failed}' if failed else 'all passed'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
