"""Child processes: whether they live, and how they end with their parent."""

from __future__ import annotations

import contextlib
import os
import sys
import time

# Runs in the child before the real program replaces it. Linux then sends SIGTERM to the child when
# the parent has ended, even by kill -9; once more if its main thread ends before the others.
_BIND = """
import ctypes, os, signal, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGTERM), 0, 0, 0) == 0:
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def bound_to_parent(command: list[str]) -> list[str]:
    """Return a command that ends when this process has ended; unchanged if not on Linux.

    The thread that starts it counts as its parent, so that thread must live as long as the process.
    """
    if not sys.platform.startswith("linux"):
        return command
    return [sys.executable, "-I", "-S", "-c", _BIND, str(os.getpid()), *command]


def alive(pid: int) -> bool:
    """Return whether a process exists; a child that has ended does not, and is reaped."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Wait until a process has ended; return False if it still exists after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while alive(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
