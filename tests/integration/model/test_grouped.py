"""A step among messages that are read together."""

from __future__ import annotations

from typing import Any

import pytest

from roomgrad import Component, Context, Message, on
from roomgrad.runtime import loop, read_count
from roomgrad.testing import running
from tests.integration.conftest import QUICK
from tests.integration.echo import ECHO, FORWARD, INPUT, OUTPUT
from tests.integration.model import learner
from tests.integration.model.conftest import Training, one_process
from tests.integration.model.learner import LearnerSettings
from tests.waiting import until


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any message may seem slow; groups grow all the same here."""
    for module in (loop, read_count):
        monkeypatch.setattr(module, "GROUP_S", 60.0)


def test_a_step_behind_a_stale_commit_is_applied_once(training: Training) -> None:
    """What is handled again follows the log, which has the step already."""
    table, seen = training.names.table("shared"), []

    @on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])
    def forward(message: Message, context: Context) -> Message:
        seen.append(context.table("shared").get("now"))
        if len(seen) == 2:  # between what it reads and its commit
            training.client.hset(table, "now", b'{"n":1}')
        return learner.forward.function(message, context)

    def start() -> Any:
        given = LearnerSettings(**{"run": training.names.run, **QUICK})
        component = Component(
            "echo", ECHO, LearnerSettings, [forward, learner.learn], model=learner.model
        )
        return running(component, given, training.echo.url)

    with start() as first:
        reply = training.echo.wait_reply(training.open())
    until(lambda: not training.client.exists(training.names.alive(first.consumer)))
    late = training.open()
    training.answer(reply, 0)
    with start():
        training.home(reply)
        training.echo.wait_reply(late)
    assert seen == [None, None, {"n": 1}]
    assert training.content() == bytes(one_process(1).dump())
