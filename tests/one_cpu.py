"""A client and its server that take turns: on one CPU, each waits a third less for the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue


def cpus() -> list[int]:
    """Return the CPUs that this process may use; none where that cannot be chosen (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """Within the block, this process and those that it starts use one and the same CPU."""
    if not (found := cpus()):
        yield
        return
    os.sched_setaffinity(0, {found[os.getpid() % len(found)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, found)


def take(left: SimpleQueue[int]) -> None:
    """Use the next CPU of a queue from now on, as each process of a pool does."""
    if not left.empty():
        os.sched_setaffinity(0, {left.get()})
