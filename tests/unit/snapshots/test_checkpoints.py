"""Which snapshots stay as checkpoints."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roomgrad.snapshots.checkpoints import Policy, from_json, to_json
from roomgrad.snapshots.pointers import Score, Snapshot

LOSS, HITS = "losses.loss", "losses.hits"


def snapshot(step: int, mean: float | None = None, metric: str = LOSS) -> Snapshot:
    """Return a checkpoint."""
    score = None if mean is None else Score(metric=metric, mean=mean, record=step)
    return Snapshot(
        version=f"{step}-a", step=step, entry=f"{step}-0", place=f"redis:{step}", size=1,
        sha256="0" * 64, at=0.0, checkpoint=True, score=score,
    )  # fmt: skip


def kept(policy: Policy, *snapshots: Snapshot) -> list[int]:
    """Return the steps of the checkpoints that stay."""
    found = policy.apply(snapshots)
    assert [each.step for each in found] == [each.step for each in snapshots]
    return [each.step for each in found if each.checkpoint]


@given(st.integers(1, 50), st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_one_is_due_for_each_multiple_that_was_passed(every: int, gaps: list[int]) -> None:
    """However far apart the steps are at which replicas look."""
    steps = list(itertools.accumulate(gaps, initial=0))
    policy = Policy(every=every, last=1)
    due = [now for since, now in itertools.pairwise(steps) if policy.is_due(now, since)]
    passed = {step // every for step in range(every, steps[-1] + 1, every)}
    assert {step // every for step in due} <= passed
    assert len({step // every for step in due}) == len(due)
    assert set(range(every, steps[-1] + 1, every)) & set(steps) <= set(due)


def test_the_last_stay() -> None:
    found = [snapshot(step) for step in (50, 40, 30, 20)]
    assert kept(Policy(every=10, last=3), *found) == [50, 40, 30]
    assert kept(Policy(every=10, last=9), *found) == [50, 40, 30, 20]
    assert kept(Policy(every=10, last=1)) == []


def test_what_is_no_checkpoint_does_not_become_one() -> None:
    other = Snapshot(**{**vars(snapshot(45)), "checkpoint": False})
    assert kept(Policy(every=10, last=1), snapshot(50), other, snapshot(40)) == [50]


@pytest.mark.parametrize(("highest", "best"), [(False, 30), (True, 20)])
def test_the_best_stays_besides(highest: bool, best: int) -> None:
    found = [snapshot(50, 3.0), snapshot(40), snapshot(30, 1.0), snapshot(20, 4.0)]
    policy = Policy(every=10, last=1, best=LOSS, highest=highest)
    assert kept(policy, *found) == [50, best]
    assert policy.best_of(found) is found[2 if best == 30 else 3]


def test_of_equal_ones_the_newest_is_the_best() -> None:
    found = [snapshot(50, 3.0), snapshot(40, 1.0), snapshot(30, 1.0)]
    assert kept(Policy(every=10, last=1, best=LOSS), *found) == [50, 40]


def test_scores_of_another_metric_do_not_count() -> None:
    found = [snapshot(50, 3.0), snapshot(40, 1.0, HITS), snapshot(30, 2.0)]
    assert kept(Policy(every=10, last=1, best=LOSS), *found) == [50, 30]
    assert kept(Policy(every=10, last=1), *found) == [50]


def test_a_policy_comes_back() -> None:
    policy = Policy(every=100, last=3, best=LOSS, highest=True)
    assert from_json(to_json(policy)) == policy
    assert from_json(None) is None


@pytest.mark.parametrize("value", [b"", b"{}", b'{"every":0,"last":1}', b'{"every":"a","last":1}'])
def test_what_is_no_policy_keeps_no_checkpoints(value: bytes) -> None:
    assert from_json(value) is None


@pytest.mark.parametrize("wrong", [{"every": 0}, {"last": 0}, {"every": 1.5}])
def test_no_other_policy_is_made(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Policy(**{"every": 1, "last": 1, **wrong})
