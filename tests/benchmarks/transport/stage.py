"""Helpers of the transport benchmarks: fresh servers, processes, medians of ratios."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

from rich.console import Console

from roomgrad.local.embedded import EmbeddedServer

WIDE = 120  # columns where the output is no terminal


@contextlib.contextmanager
def fresh_server(aof: bool) -> Iterator[EmbeddedServer]:
    """A server without data, killed at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="roomgrad-") as directory:
        server = EmbeddedServer.start(directory, aof=aof, die_with_parent=True)
        try:
            yield server
        finally:
            server.kill()


def start(
    stack: contextlib.ExitStack, *words: str, heard: bool = False
) -> tuple[subprocess.Popen[str], IO[str]]:
    """A module as a process, and what it prints if that is to be heard; killed at the end."""
    output = subprocess.PIPE if heard else subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=output, stderr=subprocess.DEVNULL, text=True
    )
    stack.callback(process.communicate)
    stack.callback(process.kill)
    return process, process.stdout or sys.stdin


def told(lines: IO[str]) -> dict[str, Any]:
    """The next line of a process, as what it says."""
    line = lines.readline()
    if not line:
        raise SystemExit("a process of the benchmark has ended before it was done")
    found: dict[str, Any] = json.loads(line)
    return found


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Median of the ratios within each turn."""
    return statistics.median(v / b for v, b in zip(values, base, strict=True))


def console() -> Console:
    """Return a console that is wide enough for a table where the output is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """MB that a process holds."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6
