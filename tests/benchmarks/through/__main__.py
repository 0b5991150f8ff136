"""A training step through another program: rooms, rivals, and one process, in turns.

    python -m tests.benchmarks.through [--rounds 5] [--seconds 4] [--json]

Forward and backward through one component, with batches of 100x3. Beside a step: two raw round
trips of ours, without torch, and what a loop notices if the component is killed and started again.
Tesseract and Ray get environments of their own in build/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from tests.benchmarks.transport.stage import fresh_server, ratio, told
from tests.pages.melody.labelling_run import free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PACKAGES = {
    "tesseract": ("tesseract-core[runtime]", "tesseract-torch", "torch==2.13.0"),
    "ray": ("ray", "numpy", "torch==2.13.0"),
}
PATIENCE_S = 60.0
KILL_S = 15.0  # of the loop whose component is killed
ABOUT = {
    "local": "one process",
    "raw": "rooms, two raw round trips",
    "through": "rooms, roomgrad.torch.Through",
    "tesseract": "Tesseract over HTTP, tesseract-torch",
    "ray": "Ray, an actor that restarts",
}
LINES = {"through": "cannon.py", "tesseract": "tesseract_api.py", "ray": "ray_actor.py"}

Restart = Callable[[], None]


def programs(kind: str) -> Path:
    """Return the folder of a contestant's programs; a rival's environment is made if missing."""
    if kind not in PACKAGES:
        return Path(sys.executable).parent
    folder = ROOT / "build" / kind
    if not (folder / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        words = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*words, *PACKAGES[kind]], check=True)
        (folder / "made").touch()
    return folder / "bin"


@contextlib.contextmanager
def served(kind: str) -> Iterator[tuple[str, Restart]]:
    """Yield the address of a component that runs, and a function that kills and restarts it."""
    with contextlib.ExitStack() as stack:
        if kind in ("local", "ray"):  # the loop starts what it needs
            yield "", lambda: None
            return
        if kind == "tesseract":
            address = f"http://127.0.0.1:{free_port()}"
            command = [str(programs(kind) / "tesseract-runtime"), "serve"]
            command += ["--port", address.rpartition(":")[2], "--host", "127.0.0.1"]
        else:
            address = stack.enter_context(fresh_server(aof=False)).url
            module = "tests.benchmarks.through.cannon"
            command = [sys.executable, "-m", module, f"--redis-url={address}", "--run=cannon"]
        environ = {**environment(), "TESSERACT_API_PATH": str(HERE / "tesseract_api.py")}
        folder = stack.enter_context(tempfile.TemporaryDirectory())  # Tesseract logs each request
        running: list[subprocess.Popen[bytes]] = []

        def start() -> None:
            devnull = subprocess.DEVNULL
            process = subprocess.Popen(
                command, cwd=folder, env=environ, stdout=devnull, stderr=devnull
            )
            running.append(process)

        def restart() -> None:
            running[-1].kill()
            running[-1].wait()
            start()

        start()
        stack.callback(lambda: running[-1].wait())
        stack.callback(lambda: running[-1].kill())
        if kind == "tesseract":
            _wait_until_healthy(address)
        yield address, restart


def environment() -> dict[str, str]:
    """Return the environment of all processes."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "shared")])}


def _wait_until_healthy(address: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(URLError, ConnectionError), urlopen(f"{address}/health"):
            return
        time.sleep(0.2)
    raise SystemExit("tesseract-runtime does not answer")


def measured(kind: str, seconds: float, *, kills: bool = False) -> dict[str, Any]:
    """Return what a loop of so many seconds says. kills: the component, in the middle of it."""
    with served(kind) as (address, restart):
        words = [str(programs(kind) / "python"), str(HERE / "loop.py"), kind, address, str(seconds)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None
        with process, contextlib.closing(process.stdout) as lines:
            ready = told(lines)
            if kills:
                time.sleep(seconds / 3)
                for pid in ready["processes"]:
                    os.kill(pid, signal.SIGKILL)
                restart()
            return told(lines)


def lines_of(kind: str) -> int:
    """Return how many lines of code the component has, without docstrings and blank lines."""
    text = (HERE / LINES[kind]).read_text().splitlines()
    return len([line for line in text if line.strip() and not line.startswith('"""')])


def main() -> None:
    """Print medians of a step, their ratios, and what a kill does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--ours", action="store_true", help="without rivals")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kinds = [kind for kind in ABOUT if not (arguments.ours and kind in PACKAGES)]
    steps: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(arguments.rounds):
        for kind, found in steps.items():
            found.append(measured(kind, arguments.seconds)["median_ms"])
    result = {
        "step_ms": {kind: statistics.median(found) for kind, found in steps.items()},
        "of_through": {kind: ratio(found, steps["through"]) for kind, found in steps.items()},
        "killed": {k: measured(k, KILL_S, kills=True) for k in kinds if k in LINES},
        "lines": {kind: lines_of(kind) for kind in kinds if kind in LINES},
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result)) if arguments.json else show(result)


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    table = Table("", "ms a step", "of Through's", "lines", "the component is killed")
    for kind, step in result["step_ms"].items():
        killed = result["killed"].get(kind)
        fate = killed and (killed["error"] or f"it waits {killed['longest_s']:.1f} s, and goes on")
        lines, times = result["lines"].get(kind, ""), f"{result['of_through'][kind]:.2f}"
        table.add_row(ABOUT[kind], f"{step:.2f}", times, str(lines), fate or "")
    Console().print(table)
    print(f"Load {result['load']:.1f}.")


if __name__ == "__main__":
    main()
