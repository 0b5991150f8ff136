"""A message stays as cheap as it is, measured by what plain pub/sub makes at the same time."""

from __future__ import annotations

import statistics

import pytest

from tests.benchmarks.transport.__main__ import CONTESTANTS, measured

ROOMS, PLAIN = (
    next(each for each in CONTESTANTS if each.name == name)
    for name in ("rooms", "pubsub-json-held")
)
# Of the rounds that redis-py pub/sub with orjson makes over one connection. Usual is 0.6; a message
# that costs twice as much falls below, and a busy machine slows down both.
LEAST = 0.32
ROUNDS, MORE_ROUNDS = 3, 4
SECONDS, WARM_UP_S = 0.5, 0.5


def turn() -> float:
    """The ratio of one turn: first the one, then the other."""
    ours, plain = (measured(each, SECONDS, WARM_UP_S) for each in (ROOMS, PLAIN))
    return ours / plain


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_message_costs_no_more_than_it_did() -> None:
    """The six-hop chain through rooms, beside the same chain over pub/sub, in turns."""
    ratios = [turn() for _ in range(ROUNDS)]
    if statistics.median(ratios) < LEAST:  # somebody else may have needed the processor
        ratios += [turn() for _ in range(MORE_ROUNDS)]
    assert statistics.median(ratios) >= LEAST, f"of redis-py pub/sub with JSON: {ratios}"
