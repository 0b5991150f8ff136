"""What writers that died have left is deleted after a snapshot, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from roomgrad.names import Names
from roomgrad.snapshots.orphans import OLD_S
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.redis_store import RedisStore
from roomgrad.snapshots.stores import SnapshotStore, open_store
from tests.integration.commands.command_line import shown
from tests.integration.model.conftest import Training, stop
from tests.waiting import until

CONTENT = memoryview(os.urandom(5000))


def age(file: Path) -> None:
    """Let a file be as old as what no writer is still writing."""
    os.utime(file, (time.time() - OLD_S - 60,) * 2)


def files(folder: Path) -> set[Path]:
    return {each for each in folder.rglob("*") if each.is_file()}


def wait_clean(training: Training) -> None:
    """Wait until a replica has taken a snapshot, and has deleted what it deletes."""
    training.train(5)
    lease = training.names.snapshot_lease("echo")
    until(lambda: training.snapshots()[0].step == 5 and not training.client.exists(lease))


def test_old_files_that_nothing_points_to_are_deleted(training: Training, tmp_path: Path) -> None:
    """One that is being written stays, and those of other components, runs, and servers."""
    folder = tmp_path / "store"
    training.settings = {"snapshots": folder.as_uri(), "snapshot_redis_mib": 0}
    process = training.spawn()
    until(training.snapshots)
    own = training.owner()
    others = (
        Owner(own.names, "other", own.run_token),
        Owner(own.names, "echo", "another"),
        Owner(Names("another"), "echo", own.run_token),
    )
    kept, gone = files(folder), set()
    for number, owner in enumerate((own, own, own, *others)):
        place, _ = open_store(folder.as_uri(), owner).write(str(number), CONTENT)
        file = Path(place.removeprefix("file://"))
        if number == 0:
            file = file.rename(file.with_name(f".roomgrad-{number:032}.partial"))  # it was killed
        if number != 1:
            age(file)
        (gone if number in (0, 2) else kept).add(file)
    for file in files(folder) - gone - kept:
        age(file)
    wait_clean(training)
    found = files(folder)
    assert found.isdisjoint(gone)
    assert {each for each in kept if own.folder not in str(each)} <= found
    assert any("1." in each.name for each in found & kept)
    training.check()
    stop(process)


def test_pieces_that_nothing_points_to_are_deleted(training: Training) -> None:
    """Those that expire are still being written."""
    process = training.spawn()
    until(training.snapshots)
    own = training.owner()
    stores: list[SnapshotStore] = [
        RedisStore(training.client.execute_command, each)
        for each in (own, Owner(own.names, "other", own.run_token))
    ]
    written = [store.write(str(number), CONTENT)[0] for number, store in enumerate(stores)]
    writing, _ = stores[0].write("2", CONTENT)
    for store, place in zip(stores, written, strict=True):
        for key in store.keys(place, len(CONTENT)):
            assert training.client.persist(key)
    wait_clean(training)
    assert not set(stores[0].places()) & {written[0]}
    assert writing in stores[0].places()
    assert stores[1].places() == [written[1]]
    stores[1].delete_all()
    training.check()
    stop(process)


@pytest.mark.parametrize("in_files", [False, True])
def test_a_component_that_is_forgotten_leaves_no_snapshot(
    training: Training, tmp_path: Path, in_files: bool
) -> None:
    """None that runs loses its model; one that comes back begins anew."""
    folder, client, names = tmp_path / "store", training.client, training.names
    if in_files:
        training.settings = {"snapshots": folder.as_uri(), "snapshot_redis_mib": 0}
    process = training.spawn()
    training.train(5)
    stays = shown(training.echo, "forget", "echo")
    assert stays.endswith("Its model stays, since it is running.\n")
    assert training.step() == 5
    stop(process)
    assert bool(files(folder)) == in_files
    assert shown(training.echo, "forget", "echo").endswith("Its model is deleted.\n")
    assert not client.keys(f"{names.model('echo')}*")
    assert not files(folder)
    assert "model" not in shown(training.echo, "forget", "echo")
    process = training.spawn()
    training.number = 0
    training.train(3)
    assert training.step() == 3
    stop(process)
