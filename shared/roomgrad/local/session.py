"""A run while it is served from here: its server, its components, its lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import redis

from roomgrad import state
from roomgrad.errors import RoomgradError
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.launcher import Launcher, last_words
from roomgrad.local.plan import Plan
from roomgrad.names import Names, encoded
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import check, connect, named
from roomgrad.runtime import heartbeats, runs

T = TypeVar("T")

LOCK = "launcher.lock"
UP_S = 90.0  # the first start of all compiles the simulator's kernel


@dataclass
class Session:
    """A run while it is served from here."""

    plan: Plan
    url: str
    embedded: EmbeddedServer | None
    client: redis.Redis
    launcher: Launcher
    began: float = field(default_factory=time.time)

    def start(self, *components: str, environ: Mapping[str, str] | None = None) -> None:
        """Start components as the plan says; `environ` are variables for these alone."""
        for component in components:
            flags = self.plan.flags(component)
            self.launcher.start(component, flags, self.plan.count(component), environ)

    def start_programs(self) -> None:
        """Start the programs of a swarm file, each after the delay of the one before it."""
        for name, program in self.plan.programs.items():
            self.launcher.start_command(
                encoded(name),
                program["command"],
                {"RUN": self.plan.run},
                folder=Path(self.plan.file).parent,
                may_end=True,
            )
            until = time.monotonic() + program["delay_s"]
            while (left := until - time.monotonic()) > 0:
                self.look_after()
                time.sleep(min(left, 0.05))

    def leave_out(self, *components: str) -> None:
        """Forget components for which somebody else stands in: no message waits for them.

        Comes before anything is started: who starts makes the groups of all that are not forgotten.
        """
        for component in components:
            runs.forget(self.client, self.plan.contract, self.plan.names, component)

    def wait_alive(self, *components: str) -> None:
        """Wait until every replica's heart beats. Raises RoomgradError if one does not come up."""
        until = time.monotonic() + UP_S
        while missing := self._silent(components):
            self.look_after()
            if time.monotonic() > until:
                path = self.launcher.log_path(missing[0])
                raise RoomgradError(
                    f"{missing[0]} did not come up within {UP_S:.0f} s; its log {path} ends with: "
                    f"{last_words(path)}"
                )
            time.sleep(0.02)

    def wait_open(self) -> None:
        """Wait until swergio clients can connect, where the plan lets them."""
        if self.plan.door is None:
            return
        while True:  # its heart beats already
            self.look_after()
            with contextlib.suppress(OSError), socket.create_connection(self.plan.door, UP_S):
                return
            time.sleep(0.02)

    def all_alive(self, *components: str) -> bool:
        """Whether every replica's heart beats now."""
        return not self._silent(components)

    def look_after(self) -> None:
        """Raises what keeps a component from running; starts the embedded server if it died."""
        self.launcher.check()
        if self.embedded is not None and not self.embedded.alive():
            self.launcher.say("the embedded server died and is started again on its data")
            self.embedded = EmbeddedServer.start(self.embedded.directory, port=self.embedded.port)

    def glance(self, read: Callable[[redis.Redis, Names], T]) -> T | None:
        """What `read` finds in this run now; None while the server is away."""
        try:
            return read(self.client, self.plan.names)
        except (redis.ConnectionError, redis.TimeoutError):
            return None

    def server_text(self) -> str:
        """Which server this is, for people and reports."""
        found = str(check(self.client) or "redis of an unknown version")
        return f"{found} (embedded)" if self.embedded else found

    def _silent(self, components: tuple[str, ...]) -> list[str]:
        try:
            beating = {each.pid for each in heartbeats.find(self.client, self.plan.names)}
        except (redis.ConnectionError, redis.TimeoutError):
            beating = set()
        pids = self.launcher.pids()
        wanted = [f"{name}-{i}" for name in components for i in range(self.plan.count(name))]
        return [name for name in wanted if pids.get(name) not in beating]


@contextlib.contextmanager
def serve(
    plan: Plan, redis_url: str, *, fresh: bool, say: Callable[[str], object]
) -> Iterator[Session]:
    """A session in which nothing is started yet; what it started is stopped at its end."""
    directory = state.run_directory(plan.names.run)
    root = state.root()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_held(directory, plan.names.run))
        url, embedded = stack.enter_context(served(redis_url))
        client = connect(for_run(url, plan.names.run), password_file())
        stack.callback(client.close)
        if fresh:
            runs.delete(client, plan.names)
        local = embedded.local_url if embedded else url
        launcher = Launcher(root, directory, {"REDIS_URL": local}, say=say)
        stack.enter_context(launcher)
        yield Session(plan, url, embedded, client, launcher)


@contextlib.contextmanager
def served(redis_url: str) -> Iterator[tuple[str, EmbeddedServer | None]]:
    """The address of the server that is meant; the embedded one is started where none is named."""
    if url := named(redis_url):
        yield url, None
        return
    embedded = EmbeddedServer.start(state.server_directory())
    try:
        yield embedded.url, embedded
    finally:
        _stop_if_idle(embedded.directory)


def _stop_if_idle(directory: Path) -> None:
    """Stop the server that runs by now: it may have been started again meanwhile."""
    running = EmbeddedServer.running(directory)
    if running is not None:
        running.stop_if_idle()


def password_file() -> str:
    """The file that holds the server's password, by the variable that components read too."""
    return os.environ.get("REDIS_PASSWORD_FILE", "")


def holder(directory: Path) -> int | None:
    """The process that serves the run of this directory now, or None."""
    try:
        with open(directory / LOCK, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int((directory / LOCK).read_text() or 0)
    return None


@contextlib.contextmanager
def _held(directory: Path, run: str) -> Iterator[None]:
    """Hold the run's lock, which ends with this process however it ends; the file has its pid."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RoomgradError(
                f"run {run} is already served by process {holder(directory)}: stop it with "
                f"`roomgrad down --run {run}`, or choose another name by --run"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
