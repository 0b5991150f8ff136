"""Orders on which a learning replica relies: what it reads, commits, and deletes first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from roomgrad import Component, Context, Message, on
from roomgrad.ops import model_state
from roomgrad.runtime.replica import Replica
from roomgrad.testing import running
from tests.integration.conftest import QUICK
from tests.integration.echo import ECHO, FORWARD, INPUT, OUTPUT
from tests.integration.model import learner
from tests.integration.model.conftest import Training, batch
from tests.integration.model.learner import LearnerSettings, Squares
from tests.waiting import until

Handle = Callable[[Message, Context], Message]


@contextmanager
def replica(training: Training, handle: Handle, **more: Any) -> Iterator[Replica]:
    """Run a replica whose forward handler is this one."""
    given = LearnerSettings(**{"run": training.names.run, **QUICK, **more})
    forward = on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])(handle)
    component = Component(
        "echo", ECHO, LearnerSettings, [forward, learner.learn], model=learner.model
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
