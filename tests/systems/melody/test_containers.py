"""Containers of the melody maker crash and are killed while a rater answers; no answer is lost.

The tests build on each other, from top to bottom: one fault after the other, then exact counts.
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

# `make test` runs such tests of the trebuchet, `make test-all` those of the melody maker, too.
pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SCALES = {EVOLUTION: 1, EVALNET: 2, LEARNER: 2, LABELLING: 1}
FILES = ("docker-compose.yml", "deploy/compose.expose.yml")
TAKEOVER_S = 1.5 * 5.0
"""One and a half leases."""

CONTINUES_S = 1.0
SLACK_S = 1.5
"""For a busy machine."""

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
    """Print a measured time, for `pytest -s`."""
    print(f"{what} {seconds:.2f} s")


@dataclass(frozen=True)
class Reached:
    """A server that the test has not started."""

    url: str


@dataclass
class MelodyContainers:
    """The melody maker in containers, and the answers seen so far."""

    project: Project
    engine: docker.DockerClient
    run: Run
    seen: set[tuple[str, str]] = field(default_factory=set)
    """Answers that were in the log of labels at some time: ID and melody."""

    def containers(self, service: str) -> list[Container]:
        return [self.engine.containers.get(each) for each in self.project.ids(service)]

    def standing(self) -> Standing:
        """How far it is, as soon as Redis answers."""
        return self.reached(lambda: standing.read(self.run.client, self.run.names))

    def reached(self, action: Callable[[], T], timeout_s: float = 60) -> T:
        """Return the result of an action, repeated until the server answers."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                return action()
            except (*AWAY, NoServer, ServerError):
                assert time.monotonic() < end, f"no server for {timeout_s} s"
                time.sleep(0.002)

    def continues(self, answers: int = 3, generations: int = 2) -> None:
        """Wait for some more answers, optimizer steps and generations."""
        before = self.standing()

        def has_continued() -> bool:
            now = self.standing()
            assert now.generation >= before.generation
            return (
                now.answered >= before.answered + answers
                and now.generation >= before.generation + generations
                and now.finished > before.finished
            )

        until(has_continued, timeout_s=120)

    def look(self) -> list[tuple[str, str]]:
        """Return the answers in the log; none that was there before may be missing."""
        entries = self.reached(lambda: standing.log(self.run.client, self.run.names))
        found = [(entry["answer"], entry["melody"]) for entry in entries]
        assert self.seen <= set(found)
        self.seen |= set(found)
        return found

    def has_heartbeat(self, container: Container) -> bool:
        """Return whether the component in a container has a heartbeat."""
        pattern = self.run.names.alive(f"*~{container.id[:12]}~*")
        return self.reached(lambda: any(self.run.client.scan_iter(pattern, count=1000)))

    def pending(self, container: Container, component: str) -> list[tuple[str, bytes]]:
        """Return the unacknowledged messages of a container: stream and entry."""
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

    def is_pending(self, component: str, key: str, entry: bytes) -> bool:
        return bool(self.run.client.xpending_range(key, component, entry, entry, 1))

    def pause_at_work(self, component: str) -> tuple[Container, list[tuple[str, bytes]]]:
        """Pause a container of a component while it handles a message."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for container in self.containers(component):
                until(lambda each=container: self.pending(each, component))
                container.pause()
                if pending := self.pending(container, component):
                    return container, pending
                container.unpause()
        raise AssertionError(f"no {component} could be paused while it handles a message")

    def settle(self) -> None:
        """Stop answers and breeding, and wait until no message is left."""
        self.project.compose("stop", RATER)
        with self.run.reach() as client:
            client.send(Message.open(CONTROL, type=COMMAND, CMD=STOP))
        until(lambda: self.run.is_idle and self.run.leftovers() == {}, timeout_s=120)


@pytest.fixture(scope="module")
def melody() -> Iterator[MelodyContainers]:
    """The melody maker in containers, with a rater that answers all questions."""
    port = free_port()
    settings = {"ROOMGRAD_REDIS_PORT": str(port), "ROOMGRAD_PAUSE_S": "0.2"}
    with removed_afterwards(Project(SCALES, 1, FILES, settings)) as project:
        project.compose("build", *SCALES, RATER)
        project.start()
        project.compose("up", "--detach", "--no-recreate", RATER)
        password = project.inside("redis", "cat /run/secrets/redis-password").stdout.strip()
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        client = redis.Redis.from_url(url, socket_timeout=2)
        engine = docker.from_env()
        try:
            # Docker takes the place of the launcher, and the compose file that of the flags.
            run: Any = Run(Reached(url), client, None, {}, Names(MELODY.name))
            yield MelodyContainers(project, engine, run)
        finally:
            engine.close()
            client.close()


def test_an_unknown_host_name_fails_soon(melody: MelodyContainers) -> None:
    """The name of a stopped Redis is unknown; a slow resolver would miss its restart."""
    melody.continues()
    found = melody.containers(LEARNER)[0].exec_run(["python", "-c", LOOK_UP])
    assert found.exit_code == 0, found.output
    report("an unknown name", float(found.output))
    assert float(found.output) < UNKNOWN_NAME_S


def test_crashed_containers_are_restarted(melody: MelodyContainers) -> None:
    """One of each service at once; Docker restarts them, as they were not stopped by hand."""
    melody.look()
    crashed = [melody.containers(service)[0] for service in (*SCALES, RATER)]
    for container in crashed:
        container.exec_run(["sh", "-c", "kill -9 -1"])  # the first process exits with its child

    def restarted(container: Container) -> bool:
        container.reload()
        again = container.attrs["RestartCount"] == 1 and container.status == "running"
        return again and melody.has_heartbeat(container)

    until(lambda: all(restarted(each) for each in crashed), timeout_s=120)
    melody.continues()
    melody.look()


def test_a_message_of_a_killed_container_is_redelivered(melody: MelodyContainers) -> None:
    """The container was handling it. Docker does not restart one that was killed by hand."""
    victim, pending = melody.pause_at_work(EVALNET)
    victim.kill()
    killed = time.monotonic()
    until(lambda: not any(melody.is_pending(EVALNET, *each) for each in pending))
    takeover = time.monotonic() - killed
    report("takeover", takeover)
    assert takeover <= TAKEOVER_S + SLACK_S
    victim.reload()
    assert (victim.status, victim.attrs["State"]["ExitCode"]) == ("exited", 137)
    melody.continues()
    melody.project.up("--no-recreate")
    until(lambda: melody.has_heartbeat(victim), timeout_s=120)


def test_a_paused_container_commits_nothing_that_was_redelivered(melody: MelodyContainers) -> None:
    """Unpaused, it drops the message that was redelivered, and continues with others."""
    frozen, pending = melody.pause_at_work(EVALNET)
    until(lambda: not any(melody.is_pending(EVALNET, *each) for each in pending))
    assert not melody.has_heartbeat(frozen)
    frozen.unpause()
    until(lambda: melody.has_heartbeat(frozen))
    melody.continues()


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_the_system_continues_after_redis_was_killed_or_restarted(
    melody: MelodyContainers, how: str
) -> None:
    """No answer is lost, and the work continues a second after Redis answers."""
    melody.look()
    [server] = melody.containers("redis")
    if how == "kill":
        server.kill()
        server.start()
    else:
        server.restart()
    before = melody.standing()
    answered = time.monotonic()
    until(lambda: melody.standing() != before)
    recovery = time.monotonic() - answered
    report("recovery", recovery)
    assert recovery <= CONTINUES_S + SLACK_S
    melody.continues()
    melody.look()


# the end


def test_every_answer_and_every_batch_counts_once(melody: MelodyContainers) -> None:
    """None is lost, doubled or left over, and no generation is missing."""
    melody.settle()
    run = melody.run
    found = standing.account(run.client, run.names)
    assert (found.lost, found.duplicates) == (0, 0)
    assert_batches_exact(run)
    assert_labels_as_answered(run)
    answers = melody.look()
    assert len(answers) == len(set(answers)) > 0
    rated = sorted(standing.means(run.client, run.names))
    assert rated == list(range(len(rated)))


def test_all_containers_stop_gracefully(melody: MelodyContainers) -> None:
    """A container that had to be killed would have another exit code."""
    melody.project.compose("stop", "--timeout=10")
    codes = {each["Name"]: each["State"]["ExitCode"] for each in melody.project.containers()}
    assert len(codes) >= sum(SCALES.values())
    said = "" if set(codes.values()) == {0} else melody.project.compose("logs", "--tail=20")
    assert set(codes.values()) == {0}, (codes, said)
