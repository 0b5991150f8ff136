"""Containers are killed, paused, cut off and scaled while the trebuchet trains; nothing is lost.

The tests are one story, from top to bottom: one fault after the other, then exact counts.
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
"""More than can be done while the test lasts: the last fault has to find it still under way."""

LEASE_S = 5.0
TAKEOVER_S = 1.5 * LEASE_S
SLACK_S = 1.0
AWAY_S = 7.0
"""Longer than the lease and the life of a heartbeat: who was away so long has been replaced."""

NAMES = Names("trebuchet")
FILES = ("docker-compose.yml", "deploy/compose.expose.yml")
AWAY = (redis.ConnectionError, redis.TimeoutError)


def docker(*words: str) -> None:
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"


def report(what: str, seconds: float) -> None:
    """Shown by `pytest -s`: a number that was measured."""
    print(f"{what} {seconds:.2f} s")


@dataclass
class Siege:
    """A training in containers, and what Redis says of it to this machine."""

    project: Project
    client: redis.Redis

    def ledger(self) -> Ledger | None:
        """The counters now; nothing while Redis is away."""
        try:
            return ledger.read(self.client, NAMES)
        except AWAY:
            return None

    def present(self) -> Ledger:
        """The counters, as soon as Redis answers."""
        found = until(self.ledger, timeout_s=120)
        assert found is not None
        return found

    def settled(self) -> Ledger | None:
        """The counters, once nobody has a message in hand, and only a trainer has one to come."""
        groups = owed(self.client)
        busy = any(hand or (lag and group != "trainer") for group, hand, lag in groups)
        return None if busy else self.present()

    def first(self, *services: str) -> list[str]:
        """One container of each service."""
        return [self.project.ids(service)[0] for service in services]

    def beats(self, container: str) -> bool:
        """Whether the component in a container has a heartbeat."""
        return any(self.client.scan_iter(NAMES.alive(f"*~{container[:12]}~*"), count=1000))

    def goes_on(self, steps: int = 30) -> float:
        """Wait for some more steps; the longest time without one, in seconds."""
        longest, since = 0.0, time.monotonic()
        goal = self.present().applied + steps
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
def siege() -> Iterator[Siege]:
    """The trebuchet in containers, and training."""
    settings = {"REDIS_PORT": str(free_port()), "THREADS": "1"}
    with removed_afterwards(Project(SCALES, STEPS, FILES, settings)) as project:
        project.compose("build", *SCALES)
        project.start()
        password = project.inside("redis", "cat /run/secrets/redis-password").stdout.strip()
        port = int(settings["REDIS_PORT"])
        with redis.Redis("127.0.0.1", port, password=password, socket_timeout=2) as client:
            yield Siege(project, client)


def test_killed_containers_are_replaced_by_the_others(siege: Siege) -> None:
    """Whatever they had in hand is taken over after a lease, and half of one more at most."""
    siege.goes_on()
    killed = siege.first(*SCALES)
    docker("kill", *killed)
    takeover = siege.goes_on()
    report("takeover", takeover)
    assert takeover <= TAKEOVER_S + SLACK_S
    docker("start", *killed)  # a kill by hand counts as a stop: nobody else starts them
    until(lambda: all(siege.beats(each) for each in killed), timeout_s=120)
    siege.goes_on()


def test_restarted_redis_is_found_again(siege: Siege) -> None:
    docker("restart", *siege.first("redis"))
    report("recovery", siege.goes_on())


def test_killed_redis_has_everything_that_it_answered(siege: Siege) -> None:
    """Its volume is kept."""
    [server] = siege.first("redis")
    docker("kill", server)
    before = time.monotonic()
    docker("start", server)
    siege.goes_on()
    report("recovery", time.monotonic() - before)


@pytest.mark.slow
def test_thawed_containers_commit_nothing_twice(siege: Siege) -> None:
    """They were replaced meanwhile, and wake up with a message in hand that is no longer theirs."""
    frozen = siege.first("controlmodel", "simulator")
    docker("pause", *frozen)
    report("takeover", siege.goes_on())
    time.sleep(AWAY_S)
    assert not any(siege.beats(each) for each in frozen)
    docker("unpause", *frozen)
    until(lambda: all(siege.beats(each) for each in frozen))
    siege.goes_on()
    assert siege.present().duplicates == 0


def test_containers_come_back_from_a_cut_network(siege: Siege) -> None:
    """The others go on meanwhile; those that were cut off connect again by themselves."""
    network = f"{siege.project.name}_default"
    cut = siege.first("simulator", "controlmodel")
    for each in cut:
        docker("network", "disconnect", network, each)
    report("takeover", siege.goes_on())
    time.sleep(AWAY_S)
    assert not any(siege.beats(each) for each in cut)
    for each in cut:
        docker("network", "connect", network, each)
    connected = time.monotonic()
    until(lambda: all(siege.beats(each) for each in cut))
    report("recovery", time.monotonic() - connected)
    siege.goes_on()
    assert siege.present().duplicates == 0


def test_scaled_down_and_up_again(siege: Siege) -> None:
    """Those that are removed finish what they have in hand, and take their heartbeat along."""
    before = siege.project.ids("simulator")
    siege.project.up("--no-recreate", simulator=1)
    left = siege.project.ids("simulator")
    assert len(left) == 1
    assert not any(siege.beats(each) for each in before if each not in left)
    siege.goes_on()
    siege.project.up("--no-recreate")
    added = siege.project.ids("simulator")
    assert len(added) == SCALES["simulator"]
    until(lambda: all(siege.beats(each) for each in added), timeout_s=120)
    siege.goes_on()


def test_restarted_trainers_go_on(siege: Siege) -> None:
    siege.project.compose("restart", "trainer")
    siege.goes_on()


@pytest.mark.slow
def test_a_redis_that_was_cut_off_for_long_is_found_again(siege: Siege) -> None:
    """Half a minute without any server; ten seconds after it is back, steps are made again."""
    network, [server] = f"{siege.project.name}_default", siege.first("redis")
    docker("network", "disconnect", network, server)
    time.sleep(1)  # what was answered before has been counted
    before = siege.present().applied
    time.sleep(29)
    assert siege.present().applied == before
    docker("network", "connect", "--alias", "redis", network, server)
    connected = time.monotonic()
    until(lambda: siege.present().applied > before)
    recovery = time.monotonic() - connected
    report("recovery", recovery)
    assert recovery <= 10
    siege.goes_on()


def test_paused_redis_is_waited_for(siege: Siege) -> None:
    """The last fault, and the training has not come to its end."""
    [server] = siege.first("redis")
    docker("pause", server)
    time.sleep(3)
    docker("unpause", server)
    report("recovery", siege.goes_on())
    assert siege.present().finished < STEPS


# the end


def test_every_batch_was_trained_once(siege: Siege) -> None:
    """The trainers are stopped wherever they are: nothing lost, nothing twice.

    So the test takes as long as its faults, on a quick machine and on a busy one. The batch that
    was under way waits for a trainer: for its loss, or home already with its step applied.
    """
    siege.project.compose("stop", "trainer")
    end = until(siege.settled)
    assert end is not None
    assert (end.dead, end.lost, end.duplicates) == (0, 0, 0)
    assert end.sent == end.finished + 1 == end.finished + end.open
    assert end.applied == end.distinct
    waits = end.sent - end.applied  # for its loss
    assert waits in (0, 1)
    assert siege.client.xlen(NAMES.dead()) == 0
    held = {component: siege.client.hlen(NAMES.memory(component)) for component in SCALES}
    assert held == {"trainer": 1, "controlmodel": waits, "simulator": waits}


def owed(client: redis.Redis) -> list[tuple[str, int, int]]:
    """Of each group of each stream: how many messages it has in hand, and how many are to come."""
    return [
        (group["name"].decode(), group["pending"], group["lag"] or 0)
        for stream in client.scan_iter("{trebuchet}:*", _type="stream")
        for group in client.xinfo_groups(stream)
    ]


def test_all_end_gracefully(siege: Siege) -> None:
    siege.project.compose("stop", "--timeout=10")
    codes = {each["Name"]: each["State"]["ExitCode"] for each in siege.project.containers()}
    assert len(codes) >= sum(SCALES.values())
    assert set(codes.values()) == {0}, codes
