"""Containers of the melody maker crash and are killed while a rater answers; no answer is lost.

The tests are one story, from top to bottom: one fault after the other, then exact counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import docker
import pytest
import redis
from docker.models.containers import Container

from roomgrad.errors import NoServer, ServerError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad_melody.commands import standing
from roomgrad_melody.commands.standing import Standing
from roomgrad_melody.contract import (
    COMMAND,
    CONTROL,
    EVALNET,
    EVOLUTION,
    LABELLING,
    LEARNER,
    MELODY,
    STOP,
)
from tests.pages.melody.labelling_run import free_port
from tests.systems.melody.play import (
    AWAY,
    RATER,
    Run,
    assert_batches_exact,
    assert_labels_as_answered,
)
from tests.systems.project import Project, removed_afterwards
from tests.waiting import until

# The trebuchet is broken in containers by `make test`, the melody maker by `make test-all`.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SCALES = {EVOLUTION: 1, EVALNET: 2, LEARNER: 2, LABELLING: 1}
FILES = ("docker-compose.yml", "deploy/compose.expose.yml")
TAKEOVER_S = 1.5 * 5.0
"""One and a half leases."""

GOES_ON_S = 1.0
SLACK_S = 1.5
"""Of a machine that has other things to do, too."""

UNKNOWN_NAME_S = 2.0
LOOK_UP = """
import socket, time
began = time.monotonic()
try:
    socket.getaddrinfo("nobody", 6379)
except OSError:
    print(time.monotonic() - began)
"""

T = TypeVar("T")


def report(what: str, seconds: float) -> None:
    """Shown by `pytest -s`: a number that was measured."""
    print(f"{what} {seconds:.2f} s")


@dataclass(frozen=True)
class Reached:
    """A server that others have started."""

    url: str


@dataclass
class Siege:
    """The melody maker in containers, and what was seen of it."""

    project: Project
    engine: docker.DockerClient
    run: Run
    seen: set[tuple[str, str]] = field(default_factory=set)
    """Answers that stood in the labels' log at some time: ID and melody."""

    def containers(self, service: str) -> list[Container]:
        return [self.engine.containers.get(each) for each in self.project.ids(service)]

    def standing(self) -> Standing:
        """How far it is, as soon as Redis answers."""
        return self.reached(lambda: standing.read(self.run.client, self.run.names))

    def reached(self, action: Callable[[], T], timeout_s: float = 60) -> T:
        """What an action answers once the server is there."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                return action()
            except (*AWAY, NoServer, ServerError):
                assert time.monotonic() < end, f"no server for {timeout_s} s"
                time.sleep(0.002)

    def goes_on(self, answers: int = 3, generations: int = 2) -> None:
        """Waits for some more answers, optimizer steps and generations."""
        before = self.standing()

        def gone_on() -> bool:
            now = self.standing()
            assert now.generation >= before.generation
            return (
                now.answered >= before.answered + answers
                and now.generation >= before.generation + generations
                and now.finished > before.finished
            )

        until(gone_on, timeout_s=120)

    def look(self) -> list[tuple[str, str]]:
        """The answers that stand; none that stood before may be missing."""
        entries = self.reached(lambda: standing.log(self.run.client, self.run.names))
        found = [(entry["answer"], entry["melody"]) for entry in entries]
        assert self.seen <= set(found)
        self.seen |= set(found)
        return found

    def beats(self, container: Container) -> bool:
        """Whether the component in a container has a heartbeat."""
        pattern = self.run.names.alive(f"*~{container.id[:12]}~*")
        return self.reached(lambda: any(self.run.client.scan_iter(pattern, count=1000)))

    def held(self, container: Container, component: str) -> list[tuple[str, bytes]]:
        """The messages that a container has in hand: stream and entry."""
        mine = f"{component}~{container.id[:12]}~".encode()
        keys = [
            self.run.names.stream(*stream.key)
            for stream in MELODY.streams
            if component in stream.consumers
        ]
        return [
            (key, each["message_id"])
            for key in keys
            for each in self.run.client.xpending_range(key, component, "-", "+", 10)
            if each["consumer"].startswith(mine)
        ]

    def is_owed(self, component: str, key: str, entry: bytes) -> bool:
        return bool(self.run.client.xpending_range(key, component, entry, entry, 1))

    def freeze_at_work(self, component: str) -> tuple[Container, list[tuple[str, bytes]]]:
        """Freezes a container of a component at a moment at which it has a message in hand."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for container in self.containers(component):
                until(lambda each=container: self.held(each, component))
                container.pause()
                if held := self.held(container, component):
                    return container, held
                container.unpause()
        raise AssertionError(f"no {component} could be frozen with a message in hand")

    def settle(self) -> None:
        """Stops answers and breeding, and waits until nobody has anything to do any more."""
        self.project.compose("stop", RATER)
        with self.run.reach() as client:
            client.send(Message.open(CONTROL, type=COMMAND, CMD=STOP))
        until(lambda: self.run.is_idle and self.run.leftovers() == {}, timeout_s=120)


@pytest.fixture(scope="module")
def siege() -> Iterator[Siege]:
    """The melody maker in containers, with a rater that answers whatever is asked."""
    port = free_port()
    settings = {"REDIS_PORT": str(port), "PAUSE_S": "0.2"}
    with removed_afterwards(Project(SCALES, 1, FILES, settings)) as project:
        project.compose("build", *SCALES, RATER)
        project.start()
        project.compose("up", "--detach", "--no-recreate", RATER)
        password = project.inside("redis", "cat /run/secrets/redis-password").stdout.strip()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        client = redis.Redis.from_url(url, socket_timeout=2)
        engine = docker.from_env()
        try:
            # The launcher is Docker's here, and its flags are those of the compose file.
            run: Any = Run(Reached(url), client, None, {}, Names(MELODY.name))
            yield Siege(project, engine, run)
        finally:
            engine.close()
            client.close()


def test_a_name_that_nobody_has_is_given_up_soon(siege: Siege) -> None:
    """While Redis is away, nobody has its name; who asks for long misses that it is back."""
    siege.goes_on()
    found = siege.containers(LEARNER)[0].exec_run(["python", "-c", LOOK_UP])
    assert found.exit_code == 0, found.output
    report("an unknown name", float(found.output))
    assert float(found.output) < UNKNOWN_NAME_S


def test_crashed_containers_are_started_again(siege: Siege) -> None:
    """One of each kind at once; Docker starts them again, as nobody has stopped them."""
    siege.look()
    crashed = [siege.containers(service)[0] for service in (*SCALES, RATER)]
    for container in crashed:
        container.exec_run(["sh", "-c", "kill -9 -1"])  # all but the first process: it ends, too

    def started_again(container: Container) -> bool:
        container.reload()
        again = container.attrs["RestartCount"] == 1 and container.status == "running"
        return again and siege.beats(container)

    until(lambda: all(started_again(each) for each in crashed), timeout_s=120)
    siege.goes_on()
    siege.look()


def test_a_message_in_dead_hands_is_taken_over(siege: Siege) -> None:
    """The container had it for certain. A kill by hand counts as a stop: it stays away."""
    victim, held = siege.freeze_at_work(EVALNET)
    victim.kill()
    killed = time.monotonic()
    until(lambda: not any(siege.is_owed(EVALNET, *each) for each in held))
    takeover = time.monotonic() - killed
    report("takeover", takeover)
    assert takeover <= TAKEOVER_S + SLACK_S
    victim.reload()
    assert (victim.status, victim.attrs["State"]["ExitCode"]) == ("exited", 137)
    siege.goes_on()
    siege.project.up("--no-recreate")
    until(lambda: siege.beats(victim), timeout_s=120)


def test_a_frozen_container_commits_nothing_that_others_have(siege: Siege) -> None:
    """It wakes up with a message that was taken over, and goes on with others."""
    frozen, held = siege.freeze_at_work(EVALNET)
    until(lambda: not any(siege.is_owed(EVALNET, *each) for each in held))
    assert not siege.beats(frozen)
    frozen.unpause()
    until(lambda: siege.beats(frozen))
    siege.goes_on()


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_redis_goes_and_comes_back(siege: Siege, how: str) -> None:
    """What stood before stands; the work goes on a second after Redis answers."""
    siege.look()
    [server] = siege.containers("redis")
    if how == "kill":
        server.kill()
        server.start()
    else:
        server.restart()
    before = siege.standing()
    answered = time.monotonic()
    until(lambda: siege.standing() != before)
    recovery = time.monotonic() - answered
    report("recovery", recovery)
    assert recovery <= GOES_ON_S + SLACK_S
    siege.goes_on()
    siege.look()


# the end


def test_every_answer_and_every_batch_counts_once(siege: Siege) -> None:
    """Nothing lost, nothing twice, nothing left over, and no generation is missing."""
    siege.settle()
    run = siege.run
    found = standing.account(run.client, run.names)
    assert (found.lost, found.duplicates) == (0, 0)
    assert_batches_exact(run)
    assert_labels_as_answered(run)
    answers = siege.look()
    assert len(answers) == len(set(answers)) > 0
    rated = sorted(standing.means(run.client, run.names))
    assert rated == list(range(len(rated)))


def test_all_end_gracefully(siege: Siege) -> None:
    """Whatever has not ended by itself after ten seconds is killed, and its exit code tells."""
    siege.project.compose("stop", "--timeout=10")
    codes = {each["Name"]: each["State"]["ExitCode"] for each in siege.project.containers()}
    assert len(codes) >= sum(SCALES.values())
    assert set(codes.values()) == {0}, codes
