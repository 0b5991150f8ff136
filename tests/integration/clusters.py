"""A real Redis Cluster: three masters, each with a replica.

with ClusterSet(directory) as servers:
    servers.kill_master("some run")
    servers.wait_elected("some run")
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from roomgrad.local.binaries import find_binary
from roomgrad.names import Names
from roomgrad.redis.cluster import SLOTS, slot_of
from tests.integration.sentinels import AWAY, Process, _answers, _free_ports
from tests.waiting import until

MASTERS = 3
NODE_TIMEOUT_MS = 1000


class Cluster:
    """What can be asked of nodes, and done to them, wherever they run."""

    def __init__(self, places: list[tuple[str, int]]) -> None:
        self.places = places
        self.buses: dict[tuple[str, int], int] = {}  # the ports by which they talk to each other
        self.login: tuple[str, ...] = ()  # by which MIGRATE writes to another node
        self.url = "redis+cluster://" + ",".join(f"{host}:{port}" for host, port in places)
        self._before: tuple[str, int] = ("", 0)

    # what is asked

    def node(self, place: tuple[str, int]) -> redis.Redis:
        """A client of one node."""
        return redis.Redis(
            host=place[0],
            port=place[1],
            protocol=2,
            socket_timeout=5.0,
            socket_connect_timeout=1.0,
            retry=None,
        )

    def ask(self, place: tuple[str, int], *words: str | int) -> Any:
        """One command on a connection of its own, for a node that may be anything by now."""
        with self.node(place) as client:
            return client.execute_command(*words)

    def master_of(self, run: str) -> tuple[str, int]:
        """The master of a run's slot, as most nodes say."""
        named = [found for each in self.places if (found := self._named(each, run))]
        return max(set(named), key=named.count)

    def client(self, run: str) -> redis.Redis:
        """A client of the master that serves a run now."""
        return self.node(self.master_of(run))

    # what is waited for

    def wait_elected(self, run: str, timeout_s: float = 30.0) -> tuple[str, int]:
        """Waits until another master than `upset` has met serves the run, as most nodes say."""

        def elected() -> tuple[str, int] | None:
            named = [found for each in self.places if (found := self._named(each, run))]
            found = next((each for each in named if named.count(each) * 2 > len(self.places)), None)
            return found if found and found != self._before and self._is_master(found) else None

        return until(elected, timeout_s)

    def upset(self, run: str, what: Callable[[tuple[str, int]], None]) -> tuple[str, int]:
        """Does something to the master of a run; answers where that was."""
        self._before = self.master_of(run)
        what(self._before)
        return self._before

    # a slot that moves

    def move(self, run: str, pause_s: float = 0.0) -> None:
        """Moves the slot of a run to another master, key by key, as redis-cli reshards.

        pause_s: how long it is on the way before the first key is, and again after the last one.
        """
        slot = slot_of(run)
        with self.half_moved(run) as (source, to):
            time.sleep(pause_s)
            while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 3):
                self.ask(source, "MIGRATE", *to, "", 0, 5000, *self.login, "KEYS", *keys)
            time.sleep(pause_s)
            new = self.ask(to, "CLUSTER", "MYID").decode()
            for each in (to, source):
                self.ask(each, "CLUSTER", "SETSLOT", slot, "NODE", new)
        until(lambda: all(self._named(each, run) == to for each in self.places))

    @contextlib.contextmanager
    def half_moved(self, run: str) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
        """The slot of a run is on its way from one master to another while this lasts."""
        slot = slot_of(run)
        source = self.master_of(run)
        to = next(each for each in self.masters() if each != source)
        ids = {each: self.ask(each, "CLUSTER", "MYID").decode() for each in (source, to)}
        self.ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
        yield source, to
        for each in (source, to):
            self.ask(each, "CLUSTER", "SETSLOT", slot, "STABLE")

    # how it is made

    def build(self) -> None:
        """Makes a cluster of nodes that know nothing of each other: the first ones are masters."""
        masters, replicas = self.places[:MASTERS], self.places[MASTERS:]
        for number, place in enumerate(masters):
            first, after = SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS
            self.ask(place, "CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            self.ask(place, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for place in self.places[1:]:
            self.ask(self.places[0], "CLUSTER", "MEET", *place, self.buses[place])
        until(lambda: all(self._knows(each, len(self.places)) for each in self.places))
        for place, master in zip(replicas, masters, strict=True):
            self.ask(place, "CLUSTER", "REPLICATE", self.ask(master, "CLUSTER", "MYID").decode())
        until(lambda: all(self._well(each) for each in self.places))
        for master in masters:
            with self.node(master) as client:  # who is online may not have asked for writes yet
                client.execute_command("DEL", _key_of(self, master))
                assert client.wait(1, 20_000) == 1

    def masters(self) -> list[tuple[str, int]]:
        return [each for each in self.places if self._is_master(each)]

    def _named(self, place: tuple[str, int], run: str) -> tuple[str, int] | None:
        try:
            ranges = self.ask(place, "CLUSTER", "SLOTS")
        except AWAY:
            return None
        slot = slot_of(run)
        found = (each[2] for each in ranges if each[0] <= slot <= each[1])
        host, port, *_ = next(found, (b"", 0))
        return (host.decode(), port) if port else None

    def _is_master(self, place: tuple[str, int]) -> bool:
        try:
            return bool(self.ask(place, "ROLE")[0] == b"master")
        except AWAY:
            return False

    def _knows(self, place: tuple[str, int], count: int) -> bool:
        nodes = self.ask(place, "CLUSTER", "NODES")
        return len(nodes.splitlines()) == count and b"handshake" not in nodes

    def _well(self, place: tuple[str, int]) -> bool:
        """Whether a node finds all slots served, and each master with its replica."""
        ranges = self.ask(place, "CLUSTER", "SLOTS")
        with_replica = [each for each in ranges if len(each) == 4]
        state = self.ask(place, "CLUSTER", "INFO")
        return len(with_replica) == MASTERS and b"cluster_state:ok" in state


def _key_of(cluster: Cluster, master: tuple[str, int]) -> str:
    """A key that this master serves."""
    return next(key for n in range(1000) if cluster.master_of(key := str(n)) == master)


class ClusterSet(Cluster):
    """Six server processes on ports of their own."""

    def __init__(self, directory: Path) -> None:
        binary = str(find_binary())
        ports = _free_ports(2 * MASTERS)
        buses = _free_ports(2 * MASTERS)
        super().__init__([("127.0.0.1", port) for port in ports])
        self.buses = dict(zip(self.places, buses, strict=True))
        self.servers = {}
        for place, bus in zip(self.places, buses, strict=True):
            home = directory / str(place[1])
            home.mkdir(parents=True)
            (home / "conf").write_text("\n".join(lines_of(place[1], bus)) + "\n")
            self.servers[place] = Process(place[1], [binary, str(home / "conf")], home)
        try:
            for each in self.servers.values():
                each.start()
            until(lambda: all(_answers(each, "PING") for each in self.servers.values()))
            self.build()
        except BaseException:
            self.close()
            raise

    def kill_master(self, run: str) -> tuple[str, int]:
        """kill -9 for the master of a run."""
        return self.upset(run, lambda place: self.servers[place].kill())

    def freeze_master(self, run: str) -> tuple[str, int]:
        """SIGSTOP for the master of a run: it keeps every connection and answers nothing."""
        return self.upset(run, lambda place: self.servers[place].send(signal.SIGSTOP))

    def thaw(self, place: tuple[str, int]) -> None:
        """SIGCONT: it goes on as what it was, until the others tell it otherwise."""
        self.servers[place].send(signal.SIGCONT)

    def close(self) -> None:
        """Ends all of them."""
        for each in self.servers.values():
            each.kill()

    def __enter__(self) -> ClusterSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def node_alone(directory: Path) -> Iterator[tuple[str, int]]:
    """A node that has met no other one, and serves nothing."""
    port, bus = _free_ports(2)
    (directory / "conf").write_text("\n".join(lines_of(port, bus)) + "\n")
    process = Process(port, [str(find_binary()), str(directory / "conf")], directory)
    process.start()
    try:
        until(lambda: _answers(process, "PING"))
        yield "127.0.0.1", port
    finally:
        process.kill()


def lines_of(port: int, bus: int) -> list[str]:
    """The configuration of a node."""
    return [
        "bind 127.0.0.1",
        f"port {port}",
        f"cluster-port {bus}",
        "cluster-enabled yes",
        f"cluster-node-timeout {NODE_TIMEOUT_MS}",
        "cluster-replica-validity-factor 0",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "repl-diskless-sync-delay 0",
    ]


def names_on(cluster: Cluster, master: tuple[str, int], count: int, stem: str) -> list[Names]:
    """Runs whose slots one master serves."""
    found: list[Names] = []
    number = 0
    while len(found) < count:
        name = f"{stem}-{number}"
        if cluster.master_of(name) == master:
            found.append(Names(name))
        number += 1
    return found
