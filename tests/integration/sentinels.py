"""A real set of servers under Sentinel: one master, two replicas, three sentinels.

with SentinelSet(directory) as servers:
    servers.kill_master()
    servers.wait_elected()
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from roomgrad.local import children
from roomgrad.local.binaries import find_binary
from tests.waiting import until

NAME = "rooms"
QUORUM = 2
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 3000
AWAY = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)


@dataclass
class Process:
    """One server or sentinel, at a port that it keeps."""

    port: int
    command: list[str]
    directory: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, or starts it again on the data and configuration that it left."""
        with open(self.directory / "log", "ab") as output:
            self.running = subprocess.Popen(
                children.bound_to_parent(self.command),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def send(self, signal_number: int) -> None:
        assert self.running is not None
        self.running.send_signal(signal_number)

    def kill(self) -> None:
        """Like a power cut; a frozen one dies too."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            self.running = None

    def ask(self, *words: str | int) -> Any:
        """One command on a connection of its own, for a server that may be anything by now."""
        with redis.Redis(
            port=self.port, protocol=2, socket_timeout=1.0, socket_connect_timeout=1.0, retry=None
        ) as client:
            return client.execute_command(*words)


class SentinelSet:
    """Servers that replicate and sentinels that watch over them, on ports of their own.

    min_replicas: `min-replicas-to-write` of each server, 0 for replication that nobody waits for.
    """

    def __init__(self, directory: Path, *, replicas: int = 2, min_replicas: int = 0) -> None:
        self._binary = str(find_binary())
        self._directory = directory
        ports = _free_ports(1 + replicas + 3)
        self.servers = [
            self._server(port, ports[0], min_replicas) for port in ports[: 1 + replicas]
        ]
        self.sentinels = self._sentinels(ports[1 + replicas :])
        self.url = (
            "redis+sentinel://"
            + ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
            + f"/{NAME}/0"
        )
        self._before = ports[0]
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # what is asked

    @property
    def master_port(self) -> int:
        """The master that most sentinels name."""
        named = self._named()
        return max(set(named), key=named.count)

    @property
    def master(self) -> Process:
        return self._at(self.master_port)

    def client(self, port: int = 0) -> redis.Redis:
        """A client of one server, by its port; of the master that is elected now if 0."""
        return redis.Redis(port=port or self.master_port, protocol=2, socket_timeout=10.0)

    # what is done to them; each answers the port of the server that it was done to

    def kill_master(self) -> int:
        """kill -9, and nobody starts it again until `restart`."""
        return self._upset(Process.kill)

    def freeze_master(self) -> int:
        """SIGSTOP: it keeps every connection and answers nothing, until `thaw`."""
        return self._upset(lambda master: master.send(signal.SIGSTOP))

    def failover(self) -> int:
        """SENTINEL FAILOVER by hand, while the master lives."""

        def ask(_: Process) -> None:
            until(lambda: _answers(self.sentinels[0], "SENTINEL", "FAILOVER", NAME))

        return self._upset(ask)

    def thaw(self, port: int) -> None:
        """SIGCONT: it goes on as what it was, until the sentinels tell it otherwise."""
        self._at(port).send(signal.SIGCONT)

    def restart(self, port: int) -> None:
        """Starts a killed server again; it comes back as what it was."""
        self._at(port).start()

    # what is waited for

    def wait_elected(self, timeout_s: float = 20.0) -> int:
        """Waits until another master than before the last upset is elected and takes writes.

        Most sentinels have to name it: then +switch-master is out.
        """

        def elected() -> int:
            named = self._named()
            found = [port for port in set(named) if named.count(port) >= QUORUM]
            if not found or found[0] == self._before:
                return 0
            return found[0] if _answers(self._at(found[0]), "ROLE", is_=b"master") else 0

        return until(elected, timeout_s)

    def wait_replicas(self, count: int, timeout_s: float = 30.0) -> None:
        """Waits until so many replicas are in step with the master."""

        until(lambda: _online(self.master) >= count, timeout_s)
        _wait_acknowledged(self.master, count)

    def close(self) -> None:
        """Ends all of them."""
        for each in (*self.sentinels, *self.servers):
            each.kill()

    def __enter__(self) -> SentinelSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # how they are made

    def _start(self) -> None:
        for each in self.servers:
            each.start()
        until(lambda: all(_answers(each, "PING") for each in self.servers))
        until(lambda: _online(self.servers[0]) == len(self.servers) - 1)
        _wait_acknowledged(self.servers[0], len(self.servers) - 1)
        for each in self.sentinels:
            each.start()
        until(lambda: all(self._ready(each) for each in self.sentinels))

    def _server(self, port: int, master: int, min_replicas: int) -> Process:
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            "replica-announce-ip 127.0.0.1",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "repl-diskless-sync-delay 0",
            "repl-timeout 10",
            f"min-replicas-to-write {min_replicas}",
            "min-replicas-max-lag 2",
        ]
        if port != master:
            lines.append(f"replicaof 127.0.0.1 {master}")
        return self._process(port, lines)

    def _sentinels(self, ports: list[int]) -> list[Process]:
        """They know one another and the replicas from the start, which saves seconds of gossip."""
        ids = {port: secrets.token_hex(20) for port in ports}
        made = []
        for port in ports:
            lines = [
                "bind 127.0.0.1",
                f"port {port}",
                "sentinel announce-ip 127.0.0.1",
                f"sentinel announce-port {port}",
                f"sentinel myid {ids[port]}",
                f"sentinel monitor {NAME} 127.0.0.1 {self.servers[0].port} {QUORUM}",
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT_MS}",
                f"sentinel parallel-syncs {NAME} 2",
            ]
            lines += [f"sentinel known-replica {NAME} 127.0.0.1 {s.port}" for s in self.servers[1:]]
            others = [each for each in ports if each != port]
            lines += [
                f"sentinel known-sentinel {NAME} 127.0.0.1 {each} {ids[each]}" for each in others
            ]
            made.append(self._process(port, lines, "--sentinel"))
        return made

    def _process(self, port: int, lines: list[str], *flags: str) -> Process:
        directory = self._directory / str(port)
        directory.mkdir(parents=True)
        path = directory / "conf"
        path.write_text("\n".join(lines) + "\n")
        return Process(port, [self._binary, str(path), *flags], directory)

    def _ready(self, sentinel: Process) -> bool:
        """Whether it has met all others and could elect a new master now."""
        with contextlib.suppress(*AWAY):
            flat = sentinel.ask("SENTINEL", "MASTER", NAME)
            state = (
                flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
            )
            found = {_text(name): _text(value) for name, value in state.items()}
            return (
                int(found["num-slaves"]) == len(self.servers) - 1
                and int(found["num-other-sentinels"]) == len(self.sentinels) - 1
                and _text(sentinel.ask("SENTINEL", "CKQUORUM", NAME)).startswith("OK")
            )
        return False

    def _named(self) -> list[int]:
        """The port that each sentinel names which answers."""
        named = []
        for each in self.sentinels:
            with contextlib.suppress(*AWAY):
                named.append(int(each.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1]))
        return named

    def _upset(self, what: Callable[[Process], None]) -> int:
        self._before = self.master_port
        what(self._at(self._before))
        return self._before

    def _at(self, port: int) -> Process:
        return next(each for each in self.servers if each.port == port)


def _answers(process: Process, *words: str, is_: bytes = b"") -> bool:
    """Whether a server or sentinel accepts a command now (and answers `is_` first)."""
    try:
        reply = process.ask(*words)
    except AWAY:
        return False
    return not is_ or reply[0] == is_


def _online(master: Process) -> int:
    """How many replicas are in step with a server."""
    with contextlib.suppress(*AWAY):
        info = master.ask("INFO", "replication")
        return sum(isinstance(each, dict) and each["state"] == "online" for each in info.values())
    return 0


def _wait_acknowledged(master: Process, count: int) -> None:
    """A replica that is online may not have asked for the stream of writes yet."""
    with redis.Redis(port=master.port, protocol=2, socket_timeout=20.0) as client:
        client.set("acknowledged", "1")
        assert client.wait(count, 10_000) >= count


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now, all held at once so that they differ."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
