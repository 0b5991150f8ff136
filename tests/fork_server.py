"""A warm Python that forks for each call of `roomgrad`: a start costs more than most commands.

Run as `python -m tests.fork_server LISTENER`, where LISTENER is the number of an open socket. For
each connection it receives a request with the descriptors of stdin, stdout and stderr, runs the
command in a process of its own, and sends back its process ID and its exit status, one a line. It
ends when its stdin does.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn

REQUEST_BYTES = 1 << 20
PRELOADED = ("roomgrad.cli", "roomgrad.inspect", "roomgrad.ops", "roomgrad.redis")


def preload() -> None:
    """Import what the commands import. Importing starts no thread, so that forks are safe."""
    for name in PRELOADED:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    assert threading.active_count() == 1


def serve(listener: socket.socket) -> None:
    """Fork for each connection until stdin ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes ended children
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            if not os.fork():
                listener.close()
                supervise(connection)


def supervise(connection: socket.socket) -> NoReturn:
    """Run one command in a child, and report its process ID and exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    body, descriptors, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 3)
    child = os.fork()
    if not child:
        connection.close()
        execute(json.loads(body), descriptors)
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def execute(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    """Run `python -m roomgrad WORDS` in this process, and end it."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    paths = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:0] = [request["cwd"], *paths]
    sys.argv = ["roomgrad", *request["words"]]
    code = run()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def run() -> int:
    """Return the exit status with which Python would end."""
    try:
        runpy.run_module("roomgrad", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    preload()
    serve(socket.socket(fileno=int(sys.argv[1])))
