"""A run while this process serves it: its server, its components, its lock."""

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

from roomgrad import state, variables
from roomgrad.clock import server_time
from roomgrad.errors import RoomgradError, RunMismatch
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.launcher import Launcher, last_line
from roomgrad.local.plan import Plan
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.addresses import for_run
from roomgrad.redis.server import check, configured_address, connect
from roomgrad.redis.server_address import AnyAddress, ServerAddress, parse
from roomgrad.runtime import runs

T = TypeVar("T")

LOCK = "launcher.lock"
UP_S = 90.0  # the first start compiles the kernel of a simulator


@dataclass
class Session:
    """A run while this process serves it."""

    plan: Plan
    url: ServerAddress
    embedded: EmbeddedServer | None
    client: redis.Redis
    launcher: Launcher
    began: float = field(init=False)
    """Unix time by the server's clock."""

    def __post_init__(self) -> None:
        self.began = server_time(self.client)

    def start(self, *components: str, environ: Mapping[str, str] | None = None) -> None:
        """Start components as the plan says, with additional environment variables."""
        for module, served in self.plan.modules.items():
            if not {*served} & {*components}:
                continue
            for number, each in enumerate(self.plan.processes(module)):
                flags = self.plan.flags(module, each)
                self.launcher.start(module, flags, 1, environ, first=number)

    def start_all(self) -> None:
        """Start everything in the plan, and wait until each component has a heartbeat.

        Raises RunMismatch if a setting for new runs is given for a run that has begun.
        """
        self.check_new()
        self.forget_replaced()
        self.start(*self.plan.components)
        self.wait_alive(*self.plan.components)
        self.wait_for_gateway()
        self.start_programs()

    def start_programs(self) -> None:
        """Start the programs of a swarm file, each after the delay of the previous one."""
        for name, program in self.plan.programs.items():
            self.launcher.start_command(
                state.file_name(name),
                program["command"],
                variables.exported(run=self.plan.run),
                folder=Path(self.plan.file).parent,
                may_end=True,
            )
            until = time.monotonic() + program["delay_s"]
            while (left := until - time.monotonic()) > 0:
                self.check()
                time.sleep(min(left, 0.05))

    def check_new(self) -> None:
        """Raise RunMismatch if a setting for new runs is given for a run that has begun."""
        for component, sentence in self.plan.new_runs_only.items():
            if self.client.hexists(self.plan.names.run_info(), f"started:{component}"):
                raise RunMismatch(sentence)

    def forget_replaced(self) -> None:
        """Forget the components that other programs replace, so that no message waits for them.

        Call it first: a component that starts creates the groups of all that are not forgotten.
        """
        for component in self.plan.replaced:
            runs.forget(self.client, self.plan.contract, self.plan.names, component)

    def wait_alive(self, *components: str) -> None:
        """Wait until every replica has a heartbeat. Raises RoomgradError if one does not start."""
        until = time.monotonic() + UP_S
        while missing := self._silent(components):
            self.check()
            if time.monotonic() > until:
                path = self.launcher.log_path(missing[0])
                raise RoomgradError(
                    f"{missing[0]} did not come up within {UP_S:.0f} s; its log {path} ends with: "
                    f"{last_line(path)}"
                )
            time.sleep(0.02)

    def wait_for_gateway(self) -> None:
        """Wait until clients can connect to the plan's gateway, if it has one."""
        while self.plan.gateway is not None:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(self.plan.gateway, UP_S):
                return
            time.sleep(0.02)

    def all_alive(self, *components: str) -> bool:
        """Whether every replica has a heartbeat now."""
        return not self._silent(components)

    def check(self) -> None:
        """Raise what keeps a component from running; restart the embedded server if it died."""
        self.launcher.check()
        if self.embedded is not None and not self.embedded.alive():
            self.launcher.say("the embedded server died and is started again on its data")
            self.embedded = EmbeddedServer.start(self.embedded.directory, port=self.embedded.port)

    def poll(self, read: Callable[[redis.Redis, Names], T]) -> T | None:
        """Check the run, then return what `read` finds in it; None while the server is away."""
        self.check()
        try:
            return read(self.client, self.plan.names)
        except (redis.ConnectionError, redis.TimeoutError):
            return None

    def server_name(self) -> str:
        """Return the server's kind and version, for people and reports."""
        found = str(check(self.client) or "redis of an unknown version")
        return f"{found} (embedded)" if self.embedded else found

    def _silent(self, components: tuple[str, ...]) -> list[str]:
        """Return the processes in which a component has no heartbeat."""
        try:
            found = heartbeats.find(self.client, self.plan.names)
        except (redis.ConnectionError, redis.TimeoutError):
            found = []
        alive, pids = {(each.component, each.pid) for each in found}, self.launcher.pids()
        return [
            f"{module}-{number}"
            for module in self.plan.modules
            for number, served in enumerate(self.plan.processes(module))
            for name in served
            if name in components and (name, pids.get(f"{module}-{number}")) not in alive
        ]


@contextlib.contextmanager
def serve(
    plan: Plan, redis_url: str, *, fresh: bool, say: Callable[[str], object]
) -> Iterator[Session]:
    """Yield a session in which nothing is started yet; stop at its end what it started."""
    directory = state.run_directory(plan.run)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(directory, plan.run))
        url, embedded = stack.enter_context(running_server(redis_url))
        client = connect(for_run(url, plan.run), password_file())
        stack.callback(client.close)
        if fresh:
            runs.delete(client, plan.names)
        environ = variables.exported(redis_url=embedded.local_url if embedded else url.url)
        if plan.members:
            environ |= variables.exported(members=str(plan.members))
        launcher = Launcher(state.current_directory(), directory, environ, say, plan.system)
        stack.enter_context(launcher)
        yield Session(plan, url, embedded, client, launcher)


@contextlib.contextmanager
def running_server(
    redis_url: AnyAddress,
) -> Iterator[tuple[ServerAddress, EmbeddedServer | None]]:
    """Yield the server's address. Without an address, start the embedded server and yield it too.

    The embedded server stops at the end unless another program uses it.
    """
    if url := configured_address(redis_url):
        yield url, None
        return
    with EmbeddedServer.shared(state.server_directory()) as embedded:
        yield parse(embedded.url), embedded


def password_file() -> str:
    """Return the file with the server's password, by the variable that components read too."""
    return variables.get("redis_password_file")


def serving_process(directory: Path) -> int | None:
    """Return the ID of the process that serves the run of a directory now, or None."""
    try:
        with open(directory / LOCK, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except BlockingIOError:
        return int((directory / LOCK).read_text() or 0)
    except OSError as error:  # of another user, or on a read-only disk
        raise state.unusable(directory / LOCK, error) from error
    return None


def already_served(run: str, pid: int | None) -> RoomgradError:
    """Return the error to raise if a run is served by another process."""
    return RoomgradError(
        f"run {run} is already served by process {pid}: stop it with `roomgrad down --run {run}`, "
        f"or choose another name by --run"
    )


@contextlib.contextmanager
def _locked(directory: Path, run: str) -> Iterator[None]:
    """Hold the run's lock, which contains this process's ID and ends with the process."""
    with state.opened(directory / LOCK, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise already_served(run, serving_process(directory)) from None
        with state.writing(directory / LOCK):
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield
