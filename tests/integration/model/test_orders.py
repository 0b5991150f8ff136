"""Orders on which a learning replica relies: what it reads, commits, and deletes first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from roomgrad import Component, Context, Message, on
from roomgrad.messages import new_id
from roomgrad.models import Replaced
from roomgrad.ops import model_state
from roomgrad.runtime import loop, read_count
from roomgrad.runtime.model import snapshotter, store
from roomgrad.runtime.replica import Replica
from roomgrad.testing import running
from tests.integration.conftest import QUICK
from tests.integration.echo import ECHO, FORWARD, INPUT, OUTPUT
from tests.integration.model import learner
from tests.integration.model.conftest import Training, batch, one_process
from tests.integration.model.learner import LearnerSettings, Squares
from tests.waiting import until

Handle = Callable[[Message, Context], Message]


@contextmanager
def replica(training: Training, handle: Handle, **more: Any) -> Iterator[Replica]:
    """Run a replica whose forward handler is this one."""
    given = LearnerSettings(**{"run": training.names.run, **QUICK, **more})
    forward = on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])(handle)
    component = Component(
        "echo", ECHO, LearnerSettings, [learner.learn, forward], model=learner.model
    )
    with running(component, given, training.echo.url) as found:
        until(lambda: training.client.exists(training.names.alive(found.consumer)))
        yield found


def replace(training: Training) -> None:
    """Let the run continue with other weights, as an operator does."""
    content = Squares()
    content.weight = content.weight * np.float32(2)
    model_state.replace(training.client, training.names, "echo", bytearray(content.dump()))


def test_a_message_is_handled_with_the_version_behind_it(training: Training) -> None:
    """A replica that waits does not know of steps that others make meanwhile."""
    outputs = []

    def forward(message: Message, context: Context) -> Message:
        reply = learner.forward.function(message, context)
        outputs.append(reply.array.tolist())
        return reply

    with replica(training, forward, block_s=1.0):
        training.echo.wait_reply(training.open())
        replace(training)  # while it waits for the next message
        training.echo.wait_reply(training.open())
    inputs = batch(1)[0]
    assert outputs[1:] == [(4 * inputs).tolist()]


def test_a_claimed_message_is_handled_with_the_version_behind_it(training: Training) -> None:
    """It is claimed behind a commit, without another read."""
    handled = []

    def forward(message: Message, context: Context) -> Message:
        number = 0 if message.array.tolist() == batch(0)[0].tolist() else 1
        handled.append(number)
        if len(handled) == 1:
            raise RuntimeError("once")
        if number == 1:
            replace(training)
            time.sleep(0.2)  # until the first message is due again
            return message.reply(OUTPUT, message.array)
        return learner.forward.function(message, context)

    with replica(training, forward):
        first = training.open()
        until(lambda: handled)
        training.echo.wait_reply(training.open())
        training.echo.wait_reply(first)
    assert sorted(handled) == [0, 0, 1]


def test_no_handler_runs_between_a_step_and_its_commit(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would compute with weights that are not committed yet, and again."""
    for module in (loop, read_count):
        monkeypatch.setattr(module, "GROUP_S", 60.0)
    handled = []

    def forward(message: Message, context: Context) -> Message:
        handled.append(message.id)
        return learner.forward.function(message, context)

    with replica(training, forward) as first:
        reply = training.echo.wait_reply(training.open())
    until(lambda: not training.client.exists(training.names.alive(first.consumer)))
    training.answer(reply, 0)  # two messages that are read together
    late = training.open()
    with replica(training, forward):
        training.echo.wait_reply(late)
    assert len(handled) == 2


def test_weights_are_replaced_from_their_own_version(training: Training) -> None:
    """What replaced them meanwhile is not lost: the handler runs again."""
    versions = []

    def forward(message: Message, context: Context) -> Message:
        versions.append(context.model.version)
        context.model.replaced = Replaced(f"0-{new_id()[:12]}", bytes(Squares().dump()))
        if len(versions) == 1:
            replace(training)
        return message.reply(OUTPUT, message.array)

    with replica(training, forward):
        training.echo.wait_reply(training.open())
    assert len(set(versions)) == 2


def test_steps_are_in_a_snapshot_when_a_replica_has_stopped(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one repeats none of them."""
    with replica(training, learner.forward.function):
        monkeypatch.setattr(snapshotter, "CHEAP_S", 0.0)  # so that it takes none while it is idle
        training.train(2)
    assert training.snapshots()[0].step == 2


def test_every_some_steps_have_the_fingerprint_of_the_weights(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which other machines notice that they compute other bits."""
    monkeypatch.setattr(store, "FINGERPRINT_EVERY", 2)
    with replica(training, learner.forward.function):
        training.train(3)
        prints = [each.fingerprint for each in training.records()]
    assert prints == ["", one_process(1).fingerprint(), ""]


def test_the_lease_of_a_snapshotter_ends_with_its_snapshot(training: Training) -> None:
    with replica(training, learner.forward.function):
        training.train(1)
        until(lambda: training.snapshots()[0].step == 1)
        lease = training.names.snapshot_lease("echo")
        until(lambda: not training.client.exists(lease), timeout_s=10)


def test_two_replicas_that_start_together_have_one_model(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first to store it wins; the other one loads that."""
    dump, first = Squares.dump, [True]

    def slow(model: Squares) -> memoryview:
        if first.pop() if first else False:  # the first one has found no model
            until(lambda: training.client.exists(training.key))
        return dump(model)

    monkeypatch.setattr(Squares, "dump", slow)
    with (
        running(learner.component(), given(training), training.echo.url),
        running(learner.component(), given(training), training.echo.url),
    ):
        version = until(lambda: training.client.hget(training.key, "version"))
        until(lambda: len(beats(training)) == 2)
        until(lambda: all(version in each for each in beats(training)), timeout_s=10)
        assert training.client.hget(training.key, "version") == version


def given(training: Training) -> LearnerSettings:
    return LearnerSettings(**{"run": training.names.run, **QUICK})


def beats(training: Training) -> list[bytes]:
    """Return the heartbeats of the replicas that live."""
    keys = [*training.client.scan_iter(training.names.alive("*"), count=1000)]
    return [each for each in training.client.mget(keys) if each] if keys else []
