"""kill -9 between every forward pass and its gradient: another replica computes it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roomgrad.runtime.model import log
from tests.systems.models.reference import difference
from tests.systems.models.replicas import STEPS, one_process
from tests.systems.models.rooms import Rooms
from tests.systems.models.zoo import CASES

# Where a forward pass that is computed again may differ most from the first one.
OFTEN = {
    *("average of the weights", "batch norm", "dropout", "noise", "lstm", "named arrays"),
    *("autocast", "accumulation"),
}
KILLED = [
    pytest.param(name, records, marks=[] if often else pytest.mark.slow)
    for name in CASES
    for records in (log.GRADIENT, log.BATCH)
    for often in [name in OFTEN and records == log.BATCH]
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "records"), KILLED)
def test_killed_replicas_learn_as_one_process(
    name: str, records: str, rooms: Callable[..., Rooms]
) -> None:
    """A replica is killed after each of its forward passes: fifty of them."""
    run = rooms(name, records)
    assert not difference(run.train_with_kills(STEPS), one_process(name))
