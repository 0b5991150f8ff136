"""A replica that is killed between the commit of a step and the step itself loses nothing."""

from __future__ import annotations

import pytest

from tests.integration.model.conftest import Training, killed, one_process

SMALL, LARGE = 4, 20_000  # weights: whose gradient is in the log, and whose batch is
STEPS = 6


@pytest.mark.parametrize(
    ("point", "size"), [("apply", SMALL), ("half", LARGE)], ids=["before", "in the middle"]
)
def test_the_replica_is_started_again(training: Training, point: str, size: int) -> None:
    first = training.spawn(size=size, die=f"{point} 3")
    for number in range(STEPS):
        reply = training.echo.wait_reply(training.open())
        training.answer(reply, number)
        if number == 2:
            killed(first)
            training.start(size=size)
        training.home(reply)
    training.check()
    assert training.content() == one_process(STEPS, size).dump()


@pytest.mark.parametrize(
    ("point", "size"), [("half", SMALL), ("apply", LARGE)], ids=["in the middle", "before"]
)
def test_another_replica_goes_on(training: Training, point: str, size: int) -> None:
    first = training.spawn(size=size, die=f"{point} 3")
    training.start(size=size)
    training.train(STEPS)
    killed(first)  # also if the other replica took all steps: those are applied here, too
    training.check()
    assert training.content() == one_process(STEPS, size).dump()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_three_replicas_reach_the_bits_of_one_process(training: Training, size: int) -> None:
    for _ in range(3):
        training.spawn(size=size, log_bytes=0, again_s=0.01)
    training.train(30)
    training.check()
    assert training.content() == one_process(30, size).dump()
