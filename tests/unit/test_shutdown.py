"""The wish to stop, as a signal handler utters it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from roomgrad.runtime.shutdown import ShutdownEvent

SHOWER = "import os, sys\nwhile True: os.kill(int(sys.argv[1]), int(sys.argv[2]))"


@pytest.fixture
def newest() -> Iterator[list[ShutdownEvent]]:
    """A handler of SIGUSR1 sets the newest of these, while another process sends and sends it."""
    found = [ShutdownEvent()]
    before = signal.signal(signal.SIGUSR1, lambda *_: found[-1].set())
    words = [sys.executable, "-c", SHOWER, str(os.getpid()), str(int(signal.SIGUSR1))]
    with subprocess.Popen(words) as process:
        yield found
        process.kill()
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_ends_a_wait_at_whatever_moment_it_comes(newest: list[ShutdownEvent]) -> None:
    """Also inside the wait itself, where a `threading.Event` would wait for its own lock."""
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        newest.append(ShutdownEvent())
        while not newest[-1].wait(0.0001):
            pass
        assert newest[-1].is_set()


def test_a_wait_ends_in_time() -> None:
    """When nobody stops it; and at once when it was stopped before."""
    stopping = ShutdownEvent()
    assert stopping.wait(0.01) is False
    stopping.set()
    assert stopping.wait(1000) is True
    assert stopping.wait(1000) is True


def test_another_thread_may_stop_it_too() -> None:
    """As tests do."""
    stopping = ShutdownEvent()
    thread = threading.Thread(target=stopping.set)
    thread.start()
    assert stopping.wait(60)
    thread.join()
