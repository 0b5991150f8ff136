"""What the gateway makes of unmodified clients of swergio, beside the server that they know.

    python -m tests.benchmarks.gateway [--rounds 5] [--seconds 3] [--json]

Three clients pass a hundred pairs of numbers around, there and back: six messages a round, one
round after the other. In turns on swergio's own server and on the gateway, which has an embedded
server behind it. The clients send header and body of a message one after the other, and the kernel
keeps the second one back until the first is acknowledged: 40 ms on Linux, where the server does
nothing about it.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from roomgrad.testing import throwaway_server
from tests.pages.melody.labelling_run import free_port
from tests.waiting import until

HOST = "127.0.0.1"
THEIRS = """
import swergio, sys
server = swergio.Server(sys.argv[1], int(sys.argv[2]), "utf-8", 10)
server.start()
"""
NAMES = {"theirs": "swergio's own server", "gateway": "gateway"}


@contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A Python process, killed at the end of the block: their server ends in no other way."""
    process = subprocess.Popen([sys.executable, *command], text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def theirs() -> Iterator[int]:
    """Start Swergio's own server and yield its port. Its line per message is discarded."""
    port = free_port()
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started("-c", THEIRS, HOST, str(port), **nowhere):
        wait_open(port)
        yield port


@contextmanager
def gateway() -> Iterator[int]:
    """The gateway on a server of its own; its port."""
    port = free_port()
    flags = (f"--port={port}", "--run=ring", "--log-level=warning")
    with (
        throwaway_server() as server,
        started("-m", "roomgrad_swergio.gateway", f"--redis-url={server.local_url}", *flags),
    ):
        wait_open(port)
        yield port


def wait_open(port: int) -> None:
    """Wait until the port accepts connections."""

    def opened() -> bool:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            return False
        return True

    until(opened, timeout_s=30)


def rounds_per_second(port: int, seconds: float) -> float:
    """What the trainer of the ring counts while the other two pass on what comes."""
    with ExitStack() as stack:
        for role in ("control", "simulator"):
            first = stack.enter_context(client(role, port, stderr=subprocess.DEVNULL))
            assert first.stdout is not None
            json.loads(first.stdout.readline())  # it is ready
        trainer = stack.enter_context(client("trainer", port, f"--seconds={seconds}"))
        assert trainer.stdout is not None
        found = next(line for line in map(json.loads, trainer.stdout) if "rounds" in line)
    return float(found["rounds"] / found["seconds"])


def client(role: str, port: int, *flags: str, **options: Any) -> Any:
    """One of the three as a process. Those that outlive their server die with a traceback."""
    command = ("-m", "tests.swergio.ring", f"--port={port}", f"--name={role}", f"--role={role}")
    return started(*command, *flags, stdout=subprocess.PIPE, **options)


def measured(rounds: int, seconds: float) -> dict[str, Any]:
    """The figures, each server started anew for each measurement."""
    found: dict[str, list[float]] = {"theirs": [], "gateway": []}
    for number in range(rounds):
        for name, server in (("theirs", theirs), ("gateway", gateway)):
            with server() as port:
                found[name].append(rounds_per_second(port, seconds))
        now = ", ".join(f"{NAMES[name]} {values[-1]:.1f}" for name, values in found.items())
        print(f"round {number}: {now} rounds a second", file=sys.stderr)
    ratios = [ours / his for ours, his in zip(found["gateway"], found["theirs"], strict=True)]
    return {
        **{f"{name}_rounds_per_s": values for name, values in found.items()},
        **{f"{name}_median": statistics.median(values) for name, values in found.items()},
        "ratio": statistics.median(ratios),
        "rounds": rounds,
        "seconds": seconds,
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    result = measured(arguments.rounds, arguments.seconds)
    table = Table(title="Rounds of six messages, a second", title_justify="left", box=None)
    for name in ("", "median", "lowest", "highest"):
        table.add_column(name, justify="right" if name else "left")
    for name, title in NAMES.items():
        values = result[f"{name}_rounds_per_s"]
        figures = (statistics.median(values), min(values), max(values))
        table.add_row(title, *(f"{value:.1f}" for value in figures))
    console = Console(stderr=arguments.json)
    console.print(table)
    took = f"{arguments.rounds} rounds in turns, {time.monotonic() - began:.0f} s in all"
    console.print(f"the gateway turns {result['ratio']:.1f} times as many (median of {took})")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
