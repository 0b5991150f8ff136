"""A server that falls back to an older state, or is emptied, is followed; its files do not mix."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roomgrad.runtime.model.writer import SnapshotWriter
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.testing import throwaway_server
from tests.integration.conftest import OwnServer, make_echo_run
from tests.integration.model.conftest import Training, ended, one_process, stop
from tests.past import Past
from tests.waiting import until

OFTEN = {"log_bytes": 0, "again_s": 0.01, "durable_s": 0.1, "size": 400, "piece_bytes": 1024}


def in_files(folder: Path) -> dict[str, Any]:
    return {**OFTEN, "snapshots": folder.as_uri(), "snapshot_redis_mib": 0}


def fall_back(server: OwnServer, past: Past) -> None:
    server.kill()
    past.come_back()
    server.restart()


def test_replicas_that_hold_newer_versions_load_the_older_one(
    own_training: Training, own_server: OwnServer, tmp_path: Path
) -> None:
    """The steps that the server has lost are taken again, by whatever batch comes."""
    training = own_training
    training.settings = dict(OFTEN)
    training.spawn()
    training.start()
    training.train(10)
    past = Past(own_server.process.directory, tmp_path)
    training.train(20)
    fall_back(own_server, past)
    training.number = 10
    training.train(5)
    training.check()
    assert training.content() == one_process(15, 400).dump()


def test_a_server_that_falls_back_further_than_the_files_go(
    own_training: Training, own_server: OwnServer, tmp_path: Path
) -> None:
    """The snapshots of then are deleted, and no other leads there: the component ends and says so.

    A copy of the folder that is as old as that of the server restores both.
    """
    training = own_training
    training.settings = in_files(tmp_path / "store")
    first = training.spawn()
    training.train(10)
    stop(first)
    past = Past(own_server.process.directory, tmp_path)
    shutil.copytree(tmp_path / "store", tmp_path / "older")
    then = {each.place for each in training.snapshots()}
    second = training.spawn()
    while then & {each.place for each in training.snapshots()}:
        training.train(10)
    fall_back(own_server, past)
    assert then == {each.place for each in training.snapshots()}
    log = ended(second, 1)
    assert "steps since the snapshot are lost" in log
    assert all(f"{place} is missing" in log for place in then)
    assert training.step() == 10
    shutil.copytree(tmp_path / "older", tmp_path / "store", dirs_exist_ok=True)
    training.spawn()
    training.number = 10
    training.train(5)
    training.check()
    assert training.content() == one_process(15, 400).dump()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Hold a snapshot between its bytes and its pointer; yield when it is there, and its release.

    Replicas in threads only.
    """
    there, release = threading.Event(), threading.Event()
    point = SnapshotWriter.point

    def later(writer: SnapshotWriter, snapshot: Snapshot) -> None:
        if snapshot.step >= 1:  # else more may follow, and the files of the first be deleted
            there.set()
            assert release.wait(60)
        point(writer, snapshot)

    monkeypatch.setattr(SnapshotWriter, "point", later)
    yield there, release
    release.set()


def emptied(training: Training) -> Callable[[], None]:
    def empty() -> None:
        training.client.flushall()
        until(lambda: training.snapshots() and training.snapshots()[0].step == 0)

    return empty


def fallen_back(training: Training) -> Callable[[], None]:
    keys = [training.key, training.names.steps("echo")]
    before = [training.client.dump(key) for key in keys]

    def fall_back() -> None:
        for key, value in zip(keys, before, strict=True):
            training.client.delete(key)
            if value:
                training.client.restore(key, 0, value)

    return fall_back


@pytest.mark.parametrize("upset", [emptied, fallen_back])
@pytest.mark.parametrize("where", ["redis", "file"])
def test_a_snapshot_of_a_state_that_the_server_has_lost(
    own_training: Training,
    held: tuple[threading.Event, threading.Event],
    upset: Callable[[Training], Callable[[], None]],
    where: str,
    tmp_path: Path,
) -> None:
    """It was copied before, and is written now: no pointer leads to it."""
    training = own_training
    training.settings = in_files(tmp_path) if where == "file" else OFTEN
    replica = training.start()
    apply = upset(training)
    there, release = held
    training.train(6)
    assert there.wait(60)
    apply()
    release.set()
    snapshotter = replica._loop._store._snapshotter  # type: ignore[union-attr]
    until(lambda: snapshotter is not None and not snapshotter._busy)
    assert training.step() == 0
    for each in training.snapshots():
        assert each.step == 0
        training.read(each)
    training.number = 0
    training.train(20)
    until(lambda: training.snapshots()[0].step > 0)  # the next ones come
    assert training.content() == one_process(20, 400).dump()


def test_an_emptied_server_gets_the_model_of_the_factory(own_training: Training) -> None:
    """Never what a process happens to hold, also if it has restarted meanwhile."""
    training = own_training
    training.settings = dict(OFTEN)
    training.spawn()
    training.start()
    training.train(12)
    for _ in range(2):
        training.client.flushall()
        until(lambda: training.client.hget(training.key, "step") == b"0")
        training.number = 0
        training.train(8)
        training.check()
        assert training.content() == one_process(8, 400).dump()


def test_two_servers_share_a_folder(own_training: Training, tmp_path: Path) -> None:
    """Runs of one name on two servers, and the two of a server that was emptied, do not collide."""
    first = own_training
    first.settings = in_files(tmp_path)
    first.spawn()
    first.train(10)
    with throwaway_server() as server:
        for echo in make_echo_run(server.url):
            echo.names = first.names
            second = Training(echo, first.settings)
            second.spawn()
            second.train(20)
            first.train(10)
            for each in (first, second):
                each.check()
                assert each.content() == one_process(20, 400).dump()
            places = [{s.place.rpartition("/")[0] for s in t.snapshots()} for t in (first, second)]
            assert len(places[0] | places[1]) == 2
