"""The weights that come out of the rooms are those of the same code in one process, bit for bit."""

from __future__ import annotations

import pytest

from tests.systems.conftest import Start, assert_exact
from tests.systems.trebuchet import reference

pytestmark = pytest.mark.timeout(120)

STEPS, BATCH = 100, 20


@pytest.mark.parametrize(
    "replicas",
    [{}, {"controlmodel": 2, "simulator": 3, "trainer": 2}],
    ids=["alone", "replicas"],
)
@pytest.mark.parametrize("preset", ["learn", pytest.param("original", marks=pytest.mark.slow)])
def test_weights_equal_those_of_one_process(
    train: Start, replicas: dict[str, int], preset: str
) -> None:
    """With one batch in flight it does not matter how many replicas there are."""
    training = train(steps=STEPS, batch_size=BATCH, seed=3, preset=preset, replicas=replicas)
    assert_exact(training)
    expected = reference.train(STEPS, seed=3, preset=preset, batch_size=BATCH)
    assert training.misses() == expected.misses
    assert training.weights() == expected.sha256
