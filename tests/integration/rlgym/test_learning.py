"""How well an ensemble of twenty learns CartPole-v1, also while its processes are killed."""

from __future__ import annotations

import pytest

from tests.benchmarks.rlgym import BETWEEN_KILLS, trained


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kill", [False, True])
def test_the_mean_return_of_a_validation_reaches_475(kill: bool) -> None:
    found = trained(0, 20, kill=kill)
    assert found["mean_return"] >= 475
    least = max(1, found["steps"] // (2 * BETWEEN_KILLS[1])) if kill else 0
    assert found["killed"] >= least
    assert found["dead_letters"] == 0
