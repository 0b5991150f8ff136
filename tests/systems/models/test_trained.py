"""A model of any kind that is trained through rooms has the bits of one that one process trains."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roomgrad.runtime.model import log
from tests.systems.models import reference, replicas
from tests.systems.models.reference import Result, difference
from tests.systems.models.replicas import STEPS, one_process
from tests.systems.models.rooms import Rooms
from tests.systems.models.zoo import CASES, Case

OTHER_SEED = 12


@pytest.mark.parametrize("name", CASES)
def test_one_replica_learns_as_one_process(name: str, rooms: Callable[..., Rooms]) -> None:
    """It has the graph of each forward pass when the gradient comes."""
    run = rooms(name)
    run.start_all(1)
    assert not difference(run.train(STEPS), one_process(name))


@pytest.mark.parametrize("records", [log.GRADIENT, pytest.param(log.BATCH, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_three_replicas_learn_as_one_process(
    name: str, records: str, rooms: Callable[..., Rooms]
) -> None:
    """The gradient comes to another replica than the forward pass did, and all repeat its step."""
    run = rooms(name, records)
    run.start_all(3)
    assert not difference(run.train(STEPS), one_process(name))


def train_without(case: Case) -> Result:
    """Train a case without its feature."""
    return reference.train(case.plain, STEPS)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.without])
def test_the_feature_of_a_case_changes_its_result(name: str) -> None:
    """So that a model that lacks it is noticed."""
    assert difference(replicas.ask(name, train_without), one_process(name))


@pytest.mark.parametrize("name", CASES)
def test_the_seed_matters_where_numbers_are_drawn(name: str) -> None:
    """And only there."""
    other = replicas.ask(name, reference.train, STEPS, OTHER_SEED)
    assert bool(difference(other, one_process(name))) == CASES[name].draws
