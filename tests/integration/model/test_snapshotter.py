"""A replica that is killed while it takes a snapshot leaves no pointer to one that is not whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from roomgrad.errors import SnapshotError
from roomgrad.runtime.model.writer import MOST
from roomgrad.snapshots.pointers import Snapshot
from tests.integration.model.conftest import Training, killed, one_process
from tests.waiting import until

OFTEN = {"log_bytes": 0, "again_s": 0.01, "durable_s": 0.1}
STEPS = 50
SIZE = 400  # 3,200 bytes of state


def pieces(training: Training) -> dict[str, bool]:
    """Return the snapshots whose pieces are stored, and whether each piece stays."""
    found: dict[str, bool] = {}
    for key in training.client.scan_iter(training.names.snapshot_piece("echo", "*", "*")):
        name = key.decode().rpartition(":")[0].rpartition(":")[2]
        found[name] = found.get(name, True) and training.client.pttl(key) == -1
    return found


def expect_whole(training: Training) -> None:
    """Require that each snapshot that the run points to is what was written, and stays."""
    found = training.snapshots()
    try:
        check(training, found)
    except (AssertionError, SnapshotError):
        if training.snapshots() == found:
            raise
        expect_whole(training)  # it pointed to others meanwhile


def check(training: Training, found: list[Snapshot]) -> None:
    assert found
    for each in found:
        training.read(each)
    if found[0].place.startswith("redis:"):
        stay = {name for name, stays in pieces(training).items() if stays}
        assert {each.place.removeprefix("redis:") for each in found} == stay


@pytest.mark.parametrize("where", ["redis", pytest.param("file", marks=pytest.mark.slow)])
@pytest.mark.parametrize("point", ["write 2", "piece 3", "point 2", "pointed 2", "drop 3"])
def test_the_snapshotter_is_killed(
    training: Training, point: str, where: str, tmp_path: Path
) -> None:
    """The other replica takes the next one when the first one counts as dead."""
    training.settings = {**OFTEN, "size": SIZE, "piece_bytes": 1024}
    if where == "file":
        training.settings |= {"snapshots": tmp_path.as_uri(), "snapshot_redis_mib": 0}
    first = training.spawn(die=point)
    with ThreadPoolExecutor() as pool:
        trained = pool.submit(training.train, STEPS)
        while first.poll() is None:
            expect_whole(training)
        killed(first)
        newest = training.snapshots()[0].step
        training.start()
        while not trained.done() or training.snapshots()[0].step == newest:
            expect_whole(training)
        trained.result()
    training.check()
    assert training.content() == one_process(STEPS, SIZE).dump()


@pytest.mark.parametrize("holder", ["another replica that died", "this replica"])
def test_a_lease_that_was_not_given_back(training: Training, holder: str) -> None:
    """Its replica died, or lost the server before it could: the next snapshot does not wait."""
    training.settings = dict(OFTEN)
    replica = training.start()
    name = replica.consumer if holder == "this replica" else f"{replica.consumer}0"
    lease = training.names.snapshot_lease("echo")
    until(lambda: training.client.set(lease, name, nx=True, px=120_000))
    training.train(10)
    until(lambda: training.snapshots()[0].step > 0)
    training.check()


def test_snapshots_that_follow_closely_are_few(training: Training) -> None:
    """None of them is durable yet; those that are kept become so one after the other."""
    training.settings = {**OFTEN, "durable_s": 30.0}
    training.start()
    counts = []
    for _ in range(20):
        newest = training.snapshots()[0].step
        training.train(10)
        until(lambda newest=newest: training.snapshots()[0].step > newest)
        counts.append(len(training.snapshots()))
    assert 2 <= max(counts) <= MOST
    training.check()
    expect_whole(training)
