"""An update in the middle of a run: releases that follow each other work side by side."""

from __future__ import annotations

import sys
from collections import Counter

import orjson
import pytest

from roomgrad.systems import module_of
from tests.systems.conftest import QUICK, Start, Training, assert_exact
from tests.systems.trebuchet import reference

pytestmark = pytest.mark.timeout(120)

STEPS, BATCH = 150, 20
COMPONENTS = ("controlmodel", "simulator", "trainer")


def join(training: Training, component: str, writes: int) -> None:
    """One more replica, of the release that writes in this format."""
    flags = training.plan.flags(component) + QUICK
    flags += [f"--batch-size={BATCH}"] if component == "trainer" else []
    module = f"{module_of(component)}.handlers"
    command = [sys.executable, "-m", "tests.systems.trebuchet.release", module]
    name = f"{component}-writes-{writes}"
    training.launcher.start_command(name, [*command, str(writes), *flags])


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
    for component in COMPONENTS:
        for writes in (1, 2):
            join(training, component, writes)
    assert_exact(training)
    assert written(training) == {name: {1, 2} for name in COMPONENTS}
    assert training.weights() == reference.train(STEPS, seed=6, batch_size=BATCH).sha256
