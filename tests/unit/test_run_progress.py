"""How fast a run goes, what restarts there were, and which component is slow."""

from __future__ import annotations

import pytest

from roomgrad.inspect.entries import MessageHeader
from roomgrad.inspect.progress import Pace, Restarts, slowest
from roomgrad.inspect.replicas import ReplicaState
from roomgrad.runtime.handling_times import Times


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    """Not known before two seconds; a run that begins again is measured anew."""
    pace = Pace()
    assert pace.update(0.0, 100) is None
    assert pace.update(1.0, 110) is None
    assert pace.update(10.0, 200) == 10.0
    assert pace.update(100.0, 200) is None, "nothing was read for longer than the window"
    assert pace.update(110.0, 250) == 5.0
    assert pace.update(111.0, 3) is None
    assert pace.update(115.0, 43) == 10.0


def test_a_run_that_stands_still_has_a_pace_of_zero() -> None:
    pace = Pace()
    assert [pace.update(float(second), 7) for second in range(40)][-1] == 0.0


def alive(component: str, *consumers: str) -> list[ReplicaState]:
    living = [ReplicaState(component, consumer=each, alive=True) for each in consumers]
    return living or [ReplicaState(component)]


@pytest.mark.parametrize(
    ("moments", "restarts"),
    [
        ([["a"], ["b"]], 1),
        ([["a"], [], [], ["b"]], 1),
        ([["a"], ["a", "b"]], 0),
        ([["a", "b"], ["a"], ["a"]], 0),
        ([["a", "b"], ["a"], ["a", "c"], ["d", "c"]], 2),
        ([[], ["a"]], 0),
        ([["a"], ["b"], ["c"], ["c"]], 2),
    ],
)
def test_a_replica_in_the_place_of_another_is_a_restart(
    moments: list[list[str]], restarts: int
) -> None:
    """One that is added is none, nor is one that ends."""
    counted = Restarts()
    found = [counted.update([*alive("echo", *each), *alive("other", "x")]) for each in moments]
    assert found[-1] == restarts


def header(sent_by: str, took_us: int | None) -> MessageHeader:
    times = None if took_us is None else Times("1-0", 0, 1000, 1500, 1000 + took_us)
    return MessageHeader(("room", ""), "1-0", "id", "root", sent_by, times=times)


def test_the_slowest_component_is_that_with_the_longest_mean() -> None:
    messages = [header("quick", 500), header("quick", 700), header("slow", 8000)]
    messages += [header("slow", 4000), header("untimed", None), header("", 10**9)]
    assert slowest(messages) == ("slow", 6.0)
    assert slowest([header("untimed", None)]) == ("", None)
