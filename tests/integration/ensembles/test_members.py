"""Members of an ensemble in one process: each learns from its own gradients, and from each once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad import Message, ModelStatus, Room, weights
from roomgrad.inspect import models
from roomgrad.models import forward_seed
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.runtime.health import check
from roomgrad.testing import running, wait_for
from tests.integration.conftest import QUICK, EchoRun, make_echo_run
from tests.integration.ensembles.zoo import ACT, ALL, MODELS, OUT, ZOO, Cell, keeper
from tests.integration.model.learner import BATCH
from tests.waiting import LIMIT_S, until

ROOT = Path(__file__).resolve().parents[3]
FORWARD = "DATA/FORWARD"


class Zoo:
    """A run of the system `zoo`, whose members are processes."""

    def __init__(self, run: EchoRun) -> None:
        self.run, self.client, self.names = run, run.client, run.names

    def spawn(self, *words: str, environ: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a process of members."""
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
        command = [sys.executable, "-m", "tests.integration.ensembles.zoo", *flags, *words]
        command += [f"--run={self.names.run}", f"--redis-url={self.run.url}"]
        paths = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths, **(environ or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.run.stack.callback(process.communicate)
        self.run.stack.callback(process.kill)
        return process

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a process of members, and wait until each of them lives."""
        process = self.spawn(*words)
        chosen = [word.removeprefix("--member=") for word in words if "--member" in word]
        wanted = {f"model.{each}" for each in (chosen[0].split(",") if chosen else range(3))}
        until(lambda: wanted <= self.served_by(process.pid))
        return process

    def served_by(self, pid: int) -> set[str]:
        """Return the components of which a process runs a replica."""
        found = heartbeats.find(self.client, self.names)
        return {each.component for each in found if each.pid == pid}

    def keep(self) -> None:
        """Start the keeper."""
        self.run.stack.enter_context(running(keeper(), self.run.make_settings(), self.run.url))
        until(lambda: heartbeats.find(self.client, self.names, "keeper"))

    def ask(self, room: Room, count: int = 1, status: ModelStatus = ModelStatus.TRAIN) -> str:
        """Send batches into a room; return the last root."""
        with Client(ZOO, self.names.run, self.run.url) as client:
            for number in range(count):
                numbers = np.full(BATCH, number + 1, "<f4")
                message = Message.open(room, numbers, status=status, seed=number)
                client.send(message)
        return message.root_id

    def home(self, member: str) -> int:
        """Return how many batches came home from a member that was asked alone."""
        room = MODELS.room(ACT, member).name
        return int(self.client.hget(self.names.counters("keeper"), room) or 0)

    def learned(self) -> dict[str, int]:
        """Return how many roots each member has learned from."""
        return {name: self.client.zcard(self.names.ledger(name)) for name in MODELS.names}

    def sha256(self, member: str) -> str:
        return models.sha256(self.client, self.names, member)

    def group(self, room: Room, type_: str, name: str) -> dict[str, Any]:
        """Return what the server tells of a group."""
        found = self.client.xinfo_groups(self.names.stream(room.name, type_))
        return next(each for each in found if each["name"] == name.encode())

    def dead(self) -> int:
        return int(self.client.xlen(self.names.dead()))


@pytest.fixture
def zoo(embedded_url: str) -> Iterator[Zoo]:
    for run in make_echo_run(embedded_url):
        yield Zoo(run)


def test_a_member_that_is_asked_alone_learns_alone(zoo: Zoo) -> None:
    """What is for one leaves nothing in the groups, logs and memories of the others."""
    zoo.keep()
    process = zoo.start()
    before = {name: zoo.sha256(name) for name in MODELS.names}
    zoo.ask(MODELS.room(ACT, "model.1"), 5)
    until(lambda: zoo.home("model.1") == 5)
    assert zoo.learned() == {"model.0": 0, "model.1": 5, "model.2": 0}
    after = {name: zoo.sha256(name) for name in MODELS.names}
    assert [name for name in MODELS.names if before[name] != after[name]] == ["model.1"]
    for name in MODELS.names:
        room = MODELS.room(ACT, name)
        found = zoo.group(room, FORWARD, name)
        assert (found["lag"], found["pending"]) == (0, 0)
        assert zoo.client.xlen(zoo.names.stream(room.name, FORWARD)) == 5 * (name == "model.1")
        assert zoo.client.hlen(zoo.names.memory(name)) == 0
    assert zoo.dead() == 0
    assert zoo.served_by(process.pid) == {*MODELS.names}


def test_all_members_answer_what_is_sent_into_the_room_of_all(zoo: Zoo) -> None:
    """Each with its own weights; in the contract and in every list each has its own name."""
    zoo.start()
    root = zoo.ask(ALL, status=ModelStatus.VALIDATE)
    answers = []
    for name in MODELS.names:
        stream = ZOO.stream(MODELS.room(OUT, name), FORWARD)
        found = wait_for(zoo.client, zoo.names, stream, root_id=root, timeout_s=LIMIT_S)
        assert found.sent_by == name
        answers.append(found.array.tobytes())
    assert len(set(answers)) == 3


def test_members_begin_with_weights_of_their_own(zoo: Zoo) -> None:
    """The same in each run of one seed, by a documented formula."""
    zoo.start("--seed=7")
    for name in MODELS.names:
        expected = Cell(forward_seed(7, name, "weights"), BATCH).weight
        found = {each.name: each for each in models.stored(zoo.client, zoo.names, name).weights()}
        assert found["weight"].data == expected.tobytes()


def test_a_killed_process_loses_nothing_of_any_member(zoo: Zoo) -> None:
    zoo.keep()
    process = zoo.start()
    for name in MODELS.names:
        zoo.ask(MODELS.room(ACT, name), 30)
    until(lambda: sum(zoo.learned().values()) >= 10)
    process.kill()
    process.wait()
    left = zoo.learned()
    zoo.start()
    until(lambda: all(zoo.home(name) == 30 for name in MODELS.names))
    assert sum(left.values()) < 90
    assert zoo.learned() == dict.fromkeys(MODELS.names, 30)
    assert all(zoo.client.hlen(zoo.names.memory(name)) == 0 for name in MODELS.names)
    assert zoo.dead() == 0


def test_a_member_may_have_more_replicas_than_others(zoo: Zoo) -> None:
    """The second one goes on while the process of all members is away."""
    zoo.keep()
    process, more = zoo.start(), zoo.start("--member=1")
    assert zoo.served_by(more.pid) == {"model.1"}
    process.kill()
    process.wait()
    zoo.ask(MODELS.room(ACT, "model.1"), 5)
    until(lambda: zoo.home("model.1") == 5)
    zoo.ask(MODELS.room(ACT, "model.2"))
    zoo.start("--member=0,2")
    until(lambda: zoo.home("model.2") == 1)
    assert zoo.learned() == {"model.0": 0, "model.1": 5, "model.2": 1}


def test_it_stops_with_all_members(zoo: Zoo) -> None:
    """On SIGTERM each member finishes, and deletes its heartbeat."""
    process = zoo.start()
    assert check("model", zoo.names.run, zoo.run.url) == "model is well."
    assert check("model.2", zoo.names.run, zoo.run.url) == "model.2 is well."
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    assert not heartbeats.find(zoo.client, zoo.names)


@pytest.mark.parametrize(
    ("word", "members", "sentence"),
    [
        ("--member=3", "", "--member 3: expected members like 7 or 0-9,12"),
        ("--member=x", "", "--member x: expected members"),
        ("--wide=1", "2", "was started with 3 members of model, not 2: continue it with"),
    ],
)
def test_wrong_members_are_refused(zoo: Zoo, word: str, members: str, sentence: str) -> None:
    zoo.keep()
    process = zoo.spawn(word, environ={"ROOMGRAD_MEMBERS": members})
    _, printed = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, sentence in printed) == (2, True), printed


def test_a_member_whose_model_is_another_one_is_named(zoo: Zoo) -> None:
    """Members may differ; a stored model that a member cannot load ends the process."""
    process = zoo.start()
    process.terminate()
    process.wait(LIMIT_S)
    process = zoo.spawn("--wide=1")
    _, printed = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith("model.1: ")
    found = models.stored(zoo.client, zoo.names, "model.1").weights()
    assert weights.sha256(found) == zoo.sha256("model.1")
    zoo.keep()
    zoo.start()
