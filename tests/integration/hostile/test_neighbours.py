"""A flood into one room, and its neighbours; `tests/benchmarks/hostile.py` measures more."""

from __future__ import annotations

import pytest

from roomgrad.testing import throwaway_server
from tests.benchmarks import hostile


@pytest.mark.slow
@pytest.mark.alone  # it compares durations
@pytest.mark.timeout(300)
def test_neighbours_of_a_flood_are_answered_as_before() -> None:
    """At the median, in the same run and in another; and what it leaves behind is bounded."""
    with (
        throwaway_server() as server,
        hostile.serving(server.url, "one", "left") as pid,
        hostile.serving(server.url, "one", "right"),
        hostile.serving(server.url, "two", "left"),
    ):
        found = hostile.measure(server.url, "100 B, 100 a second", 3, 2.0)
        left = hostile.memory(server.url, pid, 2000)
    for neighbour in ("same run", "other run"):
        calm, flooded = found[neighbour]["p50_ms"]
        assert flooded < 2 * calm + 2, found
    assert left["letters"] > 1800
    assert left["letters_mb"] < 275
    before, after = left["component_mb"]
    assert after < before + 100
