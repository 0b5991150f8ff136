"""An update in the middle of a run: releases that follow each other work side by side."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from roomgrad.redis import heartbeats
from roomgrad.systems import module_of
from tests.systems.conftest import QUICK, Start, Training, assert_exact
from tests.systems.trebuchet import reference
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

STEPS, BATCH = 150, 20
COMPONENTS = ("controlmodel", "simulator", "trainer")


def join(training: Training, component: str) -> None:
    """Two more replicas, of the releases that write in one format and in the other, until there."""
    flags = training.plan.flags(component) + QUICK
    flags += [f"--batch-size={BATCH}"] if component == "trainer" else []
    module = f"{module_of(component)}.handlers"
    command = [sys.executable, "-m", "tests.systems.trebuchet.release", module]
    for writes in (1, 2):
        name = f"{component}-writes-{writes}"
        training.launcher.start_command(name, [*command, str(writes), *flags])
    until(lambda: heartbeats.living(training.client, training.names)[component] == 2)


@contextmanager
def standing_still(training: Training) -> Iterator[None]:
    """All processes that are there stand still: no step ends before the others are there too."""
    pids = training.launcher.pids().values()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def written(training: Training) -> dict[str, set[int]]:
    """By component, the formats in which it wrote messages."""
    found: Counter[tuple[str, int]] = Counter()
    for stream in training.plan.contract.streams:
        for _, fields in training.client.xrange(training.names.stream(*stream.key)):
            body = orjson.loads(fields[b"m"])
            found[body["SENT_BY"], body["v"]] += 1
    return {name: {v for each, v in found if each == name} for name, _ in found}


def test_releases_that_follow_each_other_work_side_by_side(train: Start) -> None:
    """Each component is there twice, and each writes in two formats: as exact as one release."""
    training = train(steps=STEPS, batch_size=BATCH, seed=6, launched=False)
    join(training, "controlmodel")
    join(training, "simulator")
    with standing_still(training):
        join(training, "trainer")
    assert_exact(training)
    assert written(training) == {name: {1, 2} for name in COMPONENTS}
    assert training.weights() == reference.train(STEPS, seed=6, batch_size=BATCH).sha256
