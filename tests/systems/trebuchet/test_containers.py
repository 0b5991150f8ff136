"""Containers are killed, paused, cut off and scaled while the trebuchet trains; nothing is lost.

The tests build on each other, from top to bottom: one fault after the other, then exact counts.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from roomgrad.names import Names
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.ledger import Ledger
from tests.pages.melody.labelling_run import free_port
from tests.systems.project import Project, removed_afterwards
from tests.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

SCALES = {"trainer": 2, "controlmodel": 2, "simulator": 4}
STEPS = 100_000
"""More than the training finishes during the tests, so that the last fault interrupts it too."""

LEASE_S = 5.0
TAKEOVER_S = 1.5 * LEASE_S
SLACK_S = 1.0
AWAY_S = 7.0
"""Longer than the lease and the life of a heartbeat: the others have taken over the messages."""

NAMES = Names("trebuchet")
FILES = ("docker-compose.yml", "deploy/compose.expose.yml")
UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)


def docker(*words: str) -> None:
    """Run a command of Docker; it has to succeed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"


def report(what: str, seconds: float) -> None:
    """Print a measured time, for `pytest -s`."""
    print(f"{what} {seconds:.2f} s")


@dataclass
class Training:
    """A training in containers, and a client of its Redis."""

    project: Project
    client: redis.Redis

    def ledger(self) -> Ledger | None:
        """Return the counters now, or None while Redis is unreachable."""
        try:
            return ledger.read(self.client, NAMES)
        except UNREACHABLE:
            return None

    def counters(self) -> Ledger:
        """Return the counters as soon as Redis answers."""
        found = until(self.ledger, timeout_s=120)
        assert found is not None
        return found

    def settled(self) -> Ledger | None:
        """Return the counters once only messages for the trainer are left, or None."""
        groups = unacknowledged(self.client)
        busy = any(hand or (lag and group != "trainer") for group, hand, lag in groups)
        return None if busy else self.counters()

    def first(self, *services: str) -> list[str]:
        """Return one container of each service."""
        return [self.project.ids(service)[0] for service in services]

    def has_heartbeat(self, container: str) -> bool:
        """Return whether the component in a container has a heartbeat."""
        return any(self.client.scan_iter(NAMES.alive(f"*~{container[:12]}~*"), count=1000))

    def continues(self, steps: int = 30) -> float:
        """Wait for some more steps; return the longest time without one, in seconds."""
        longest, since = 0.0, time.monotonic()
        goal = self.counters().applied + steps
        assert goal <= STEPS, f"all {STEPS} steps were done before the fault: raise STEPS"
        seen = goal - steps
        while seen < goal:
            assert time.monotonic() - since < 120, self.project.run("logs", "--tail=20").stdout
            now = self.ledger()
            if now and now.applied > seen:
                seen, since, before = now.applied, time.monotonic(), since
                longest = max(longest, since - before)
            time.sleep(0.02)
        return longest


@pytest.fixture(scope="module")
def training() -> Iterator[Training]:
    """The trebuchet while it trains in containers."""
    settings = {"ROOMGRAD_REDIS_PORT": str(free_port()), "ROOMGRAD_THREADS": "1"}
    with removed_afterwards(Project(SCALES, STEPS, FILES, settings)) as project:
        project.compose("build", *SCALES)
        project.start()
        password = project.inside("redis", "cat /run/secrets/redis-password").stdout.strip()
        port = int(settings["ROOMGRAD_REDIS_PORT"])
        with redis.Redis("127.0.0.1", port, password=password, socket_timeout=2) as client:
            yield Training(project, client)


def test_killed_containers_are_replaced_by_the_others(training: Training) -> None:
    """Their messages are redelivered after at most one and a half leases."""
    training.continues()
    killed = training.first(*SCALES)
    docker("kill", *killed)
    takeover = training.continues()
    report("takeover", takeover)
    assert takeover <= TAKEOVER_S + SLACK_S
    docker("start", *killed)  # Docker does not restart a container that was killed by hand
    until(lambda: all(training.has_heartbeat(each) for each in killed), timeout_s=120)
    training.continues()


def test_components_reconnect_to_a_restarted_redis(training: Training) -> None:
    """The training continues by itself."""
    docker("restart", *training.first("redis"))
    report("recovery", training.continues())


def test_a_killed_redis_loses_no_write_that_it_acknowledged(training: Training) -> None:
    """Its append-only file is on a volume."""
    [server] = training.first("redis")
    docker("kill", server)
    before = time.monotonic()
    docker("start", server)
    training.continues()
    report("recovery", time.monotonic() - before)


@pytest.mark.slow
def test_unpaused_containers_commit_nothing_twice(training: Training) -> None:
    """The message that they were handling has been redelivered meanwhile."""
    frozen = training.first("controlmodel", "simulator")
    docker("pause", *frozen)
    report("takeover", training.continues())
    time.sleep(AWAY_S)
    assert not any(training.has_heartbeat(each) for each in frozen)
    docker("unpause", *frozen)
    until(lambda: all(training.has_heartbeat(each) for each in frozen))
    training.continues()
    assert training.counters().duplicates == 0


def test_containers_come_back_from_a_cut_network(training: Training) -> None:
    """The others continue meanwhile; those that were cut off reconnect."""
    network = f"{training.project.name}_default"
    cut = training.first("simulator", "controlmodel")
    for each in cut:
        docker("network", "disconnect", network, each)
    report("takeover", training.continues())
    time.sleep(AWAY_S)
    assert not any(training.has_heartbeat(each) for each in cut)
    for each in cut:
        docker("network", "connect", network, each)
    connected = time.monotonic()
    until(lambda: all(training.has_heartbeat(each) for each in cut))
    report("recovery", time.monotonic() - connected)
    training.continues()
    assert training.counters().duplicates == 0


def test_scaled_down_and_up_again(training: Training) -> None:
    """A container that is removed finishes its message and deletes its heartbeat."""
    before = training.project.ids("simulator")
    training.project.up("--no-recreate", simulator=1)
    left = training.project.ids("simulator")
    assert len(left) == 1
    assert not any(training.has_heartbeat(each) for each in before if each not in left)
    training.continues()
    training.project.up("--no-recreate")
    added = training.project.ids("simulator")
    assert len(added) == SCALES["simulator"]
    until(lambda: all(training.has_heartbeat(each) for each in added), timeout_s=120)
    training.continues()


def test_restarted_trainers_continue(training: Training) -> None:
    """The run does not begin anew."""
    training.project.compose("restart", "trainer")
    training.continues()


@pytest.mark.slow
def test_components_reconnect_to_a_redis_that_was_cut_off_for_long(training: Training) -> None:
    """After half a minute without a server, the training continues within ten seconds."""
    network, [server] = f"{training.project.name}_default", training.first("redis")
    docker("network", "disconnect", network, server)
    time.sleep(1)  # steps that were committed before are counted by now
    before = training.counters().applied
    time.sleep(29)
    assert training.counters().applied == before
    docker("network", "connect", "--alias", "redis", network, server)
    connected = time.monotonic()
    until(lambda: training.counters().applied > before)
    recovery = time.monotonic() - connected
    report("recovery", recovery)
    assert recovery <= 10
    training.continues()


def test_components_wait_for_a_paused_redis(training: Training) -> None:
    """The last fault; the training has not ended before it."""
    [server] = training.first("redis")
    docker("pause", server)
    time.sleep(3)
    docker("unpause", server)
    report("recovery", training.continues())
    assert training.counters().finished < STEPS


# the end


def test_every_batch_was_trained_once(training: Training) -> None:
    """The trainers are stopped in the middle: no batch is lost or trained twice.

    So the test takes as long as its faults, on any machine. The batch that was open waits for a
    trainer: for its loss, or finished, with its step applied.
    """
    training.project.compose("stop", "trainer")
    end = until(training.settled)
    assert end is not None
    assert (end.dead, end.lost, end.duplicates) == (0, 0, 0)
    assert end.sent == end.finished + 1 == end.finished + end.open
    assert end.applied == end.distinct
    waits = end.sent - end.applied  # for its loss
    assert waits in (0, 1)
    assert training.client.xlen(NAMES.dead()) == 0
    held = {component: training.client.hlen(NAMES.memory(component)) for component in SCALES}
    assert held == {"trainer": 1, "controlmodel": waits, "simulator": waits}


def unacknowledged(client: redis.Redis) -> list[tuple[str, int, int]]:
    """Return group, pending messages and lag of each group of each stream."""
    return [
        (group["name"].decode(), group["pending"], group["lag"] or 0)
        for stream in client.scan_iter("{trebuchet}:*", _type="stream")
        for group in client.xinfo_groups(stream)
    ]


def test_all_containers_stop_gracefully(training: Training) -> None:
    """In the time that docker-compose.yml gives them; a killed one would have another exit code."""
    training.project.compose("stop")
    codes = {each["Name"]: each["State"]["ExitCode"] for each in training.project.containers()}
    assert len(codes) >= sum(SCALES.values())
    assert set(codes.values()) == {0}, codes
