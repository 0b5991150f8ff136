"""Gradients of older versions are exact, whichever replica gets them; the log stays bounded."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from roomgrad import Message
from roomgrad.codec import unpack
from roomgrad.inspect import models
from roomgrad.ops import model_state
from roomgrad.runtime.model.follower import MOST_REMEMBERED, Follower
from roomgrad.runtime.model.writer import WANTED
from roomgrad.snapshots import pointers
from tests.integration.model.conftest import BATCH, Training, batch, one_process, step
from tests.integration.model.learner import Squares, Vector
from tests.waiting import LIMIT_S, until

SIZE = 400


class Window:
    """Several batches in flight, and one process that takes the same steps in the same order."""

    def __init__(self, training: Training, size: int = SIZE) -> None:
        self.training = training
        self.model = Squares(size)
        self.weights: dict[str, Vector] = {}
        self.open: list[tuple[int, Message]] = []
        self.remember()

    def remember(self) -> None:
        """Keep the weights of the run's version."""
        version = (self.training.client.hget(self.training.key, "version") or b"").decode()
        self.weights[version] = self.model.weight[:BATCH].copy()

    def forward(self, number: int) -> None:
        reply = self.training.echo.wait_reply(self.training.open(number))
        w = self.weights[self.version(reply)]
        assert reply.array.tolist() == (w * w * batch(number)[0]).tolist()
        self.open.append((number, reply))

    def version(self, reply: Message) -> str:
        record = self.training.client.hget(self.training.names.memory("echo"), reply.id)
        return str(unpack(record)["weights"])

    def backward(self, at: int) -> None:
        """Answer an open batch; its gradients are those at the weights of its forward pass."""
        number, reply = self.open.pop(at)
        w = self.weights[self.version(reply)]
        self.training.answer(reply, number)
        of_inputs = self.training.home(reply).array
        assert of_inputs.tolist() == (w * w * batch(number)[1]).tolist()
        step(self.model, number, w)
        self.remember()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the versions that replicas in threads have computed from a snapshot."""
    found: list[str] = []
    compute = Follower._compute

    def counted(follower: Follower, version: str) -> Any:
        found.append(version)
        return compute(follower, version)

    monkeypatch.setattr(Follower, "_compute", counted)
    return found


def test_three_replicas_with_a_window(training: Training, computed: list[str]) -> None:
    """Each replica computes a version from a snapshot a few times, and then remembers them."""
    training.settings = {"size": SIZE, "log_bytes": 0, "again_s": 0.05}
    replicas = [training.start() for _ in range(3)]
    window, order = Window(training), np.random.default_rng(1)
    for number in range(120):
        window.forward(number)
        if len(window.open) == 8:
            window.backward(int(order.integers(8)))
    while window.open:
        window.backward(0)
    training.check(120)
    assert training.content() == window.model.dump()
    assert len(computed) < 60  # of 120 gradients, most of an older version
    for replica in replicas:
        store = replica._loop._store
        assert store is not None
        assert len(store.follower._older) <= MOST_REMEMBERED


def test_another_state_while_training_runs(training: Training) -> None:
    """All replicas continue with it; open roots get the gradients of the weights that made them."""
    training.settings = {"size": SIZE, "log_bytes": 0, "again_s": 0.05}
    for _ in range(3):
        training.start()
    window = Window(training)
    for number in range(6):
        window.forward(number)
    for _ in range(4):
        window.backward(0)
    before = models.stored(training.client, training.names, "echo", wait_s=LIMIT_S)
    other = Squares(SIZE)
    other.load(before.content)
    other.weight = other.weight * np.float32(0.5)
    found = model_state.replace(training.client, training.names, "echo", bytearray(other.dump()))
    assert found.snapshot.step == 4
    window.model = other
    window.remember()
    for number in range(6, 30):
        window.forward(number)
        window.backward(len(window.open) - 1)
    while window.open:  # of before
        window.backward(0)
    training.check(30)
    assert training.content() == window.model.dump()


def test_another_state_keeps_the_step_that_the_run_has_reached(training: Training) -> None:
    """Steps that were taken since the state was read are not counted back."""
    training.start()
    training.train(3)
    before = models.stored(training.client, training.names, "echo", wait_s=LIMIT_S)
    training.train(2)
    found = model_state.replace(training.client, training.names, "echo", before.content)
    assert (found.snapshot.step, training.step()) == (5, 5)
    training.train(2)
    assert training.step() == 7


def test_the_log_and_the_snapshots_stay_bounded(training: Training) -> None:
    """The two newest durable snapshots can be repeated at any time."""
    training.settings = {"size": SIZE, "log_bytes": 0, "again_s": 0.01, "durable_s": 0.01}
    for _ in range(2):
        training.start()
    longest = 0
    for _ in range(30):
        training.train(10)
        found, records = training.snapshots(), training.records()
        longest = max(longest, len(records))
        assert len(found) <= 6
        if found == training.snapshots():
            known = {record.before for record in records} | {records[-1].version}
            assert {each.version for each in found[:2]} <= known
    training.check()
    assert longest < 150
    pieces = list(training.client.scan_iter(training.names.snapshot_piece("echo", "*", "*")))
    assert len(pieces) <= 7


def test_a_root_that_is_open_for_too_long(training: Training) -> None:
    """Its weights can no longer be computed: a dead letter says so, and training goes on."""
    training.settings = {"size": SIZE, "log_bytes": 0, "again_s": 0.01, "durable_s": 0.01}
    replica = training.start()
    old = training.echo.wait_reply(training.open(999))
    version = training.versions()[old.root_id]
    until(lambda: training.train(10) or training.snapshots()[-1].step > 0)
    assert training.records()[0].step >= training.snapshots()[-1].step  # the root holds no log
    training.echo.stop(replica)  # so that nothing is remembered
    training.start()
    training.answer(old, 999)
    until(training.echo.dead_letters)
    [letter] = training.echo.dead_letters()
    reason = f"the weights {version} of the forward pass are no longer stored"
    assert reason.encode() in b" ".join(letter.values())
    training.train(3)
    until(lambda: not training.client.exists(training.names.memory("echo")))
    assert not training.client.exists(training.names.kept("echo"))


def test_a_snapshot_that_was_begun_before_it_was_asked_for_is_not_enough(
    training: Training,
) -> None:
    """Its pointer ends the wish, so another one is asked for."""
    training.settings = {"size": SIZE, "log_bytes": 0, "again_s": 3600.0}
    process = training.spawn()
    training.train(1)
    until(lambda: len(training.snapshots()) == 2)
    training.train(4)
    stored = training.client.hget(training.key, pointers.FIELD)
    with ThreadPoolExecutor() as pool:
        content = pool.submit(training.content)
        until(lambda: training.client.hexists(training.key, WANTED))
        commit = training.client.pipeline()
        commit.hset(training.key, pointers.FIELD, pointers.to_json(training.snapshots()[-1:]))
        commit.hdel(training.key, WANTED)
        commit.execute()
        until(lambda: training.client.hexists(training.key, WANTED))
        training.client.hset(training.key, pointers.FIELD, stored)
        process.kill()
        training.spawn(again_s=0.01)
        assert content.result() == one_process(5, SIZE).dump()
