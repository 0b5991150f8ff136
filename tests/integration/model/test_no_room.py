"""Snapshots that cannot be written: training goes on, one line says so, and they come at last."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from roomgrad.testing import running
from tests.forked import Forked
from tests.integration.conftest import QUICK
from tests.integration.model.conftest import BATCH, Training, one_process, step, stop
from tests.integration.model.learner import LearnerSettings, Squares, component
from tests.waiting import until

SIZE = 400
OFTEN = {"log_bytes": 0, "again_s": 0.01, "retry_s": 0.1, "durable_s": 0.1, "size": SIZE}
WARNING, AGAIN = "no snapshot was taken, trying again", "a snapshot was taken again"


@contextmanager
def disk_full(process: Forked, store: Path) -> Iterator[str]:
    """Let the process write no file of more than 1,000 bytes; yield what the log says of it."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, before[1]))
    yield "File too large"
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def store_gone(process: Forked, store: Path) -> Iterator[str]:
    """Put a file in the place of the store, as no folder can be made there then."""
    aside = store.with_name("aside")
    store.rename(aside)
    store.touch()
    yield "cannot be written by user id"
    store.unlink()
    aside.rename(store)


@contextmanager
def no_space(process: Forked, store: Path) -> Iterator[str]:
    """Fill the file system of the store."""
    filler = store.parent / "filler"
    fill(filler)
    yield "No space left on device"
    filler.unlink()


def fill(filler: Path) -> None:
    """Write a file until the disk is full."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert not os.statvfs(filler).f_bavail


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_without_room(training: Training, small_disk: Path) -> None:
    """The replica comes back meanwhile, too."""
    check_outage(training, no_space, small_disk / "store")
    model = one_process(60, SIZE)
    fill(small_disk / "filler")
    process = training.spawn()
    training.train(10)
    training.check_counts()
    stop(process)
    assert training.snapshots()[0].step == 60
    (small_disk / "filler").unlink()
    process = training.spawn()
    training.train(10)
    until(lambda: training.snapshots()[0].step == 80)
    stop(process)
    for number in range(60, 80):
        step(model, number)
    assert bytes(training.read(training.snapshots()[0])) == model.dump()


def test_a_new_run_on_a_disk_without_room(training: Training, small_disk: Path) -> None:
    """It waits, and says for what; it begins when there is room."""
    where = {"snapshots": (small_disk / "store").as_uri(), "snapshot_redis_mib": 0}
    given = LearnerSettings(run=training.names.run, **{**QUICK, **OFTEN, **where})
    fill(small_disk / "filler")
    with (
        structlog.testing.capture_logs() as logs,
        running(component(), given, training.echo.url),
    ):
        told = "cannot store the model, trying again"
        until(lambda: any(each["event"] == told for each in logs))
        [reason] = [each["reason"] for each in logs if each["event"] == told]
        assert "No space left on device" in reason
        assert "make space there" in reason
        assert not training.client.hexists(training.key, "version")
        assert snapshot_files(small_disk) == [small_disk / "filler"]
        (small_disk / "filler").unlink()
        training.train(5)
        training.check()


@pytest.mark.parametrize("without", [disk_full, store_gone])
def test_a_store_that_cannot_be_written(training: Training, without: Any, tmp_path: Path) -> None:
    """The log grows meanwhile, by which any replica has the state."""
    check_outage(training, without, tmp_path / "store")


def check_outage(training: Training, without: Any, store: Path) -> None:
    """Train while a store cannot be written; nothing half-written is left or pointed to."""
    training.settings = {**OFTEN, "snapshots": store.as_uri(), "snapshot_redis_mib": 0}
    process = training.spawn()
    training.train(10)
    until(lambda: training.snapshots()[0].step == 10)
    with without(process, store) as reason:
        training.train(40)
        assert training.snapshots()[0].step == 10
        assert len(training.records()) >= 40
        training.check_counts()
        pointed = {each.place.rpartition("/")[2] for each in training.snapshots()}
        if store.is_dir():
            until(lambda: {each.name for each in snapshot_files(store)} == pointed)
    until(lambda: training.snapshots()[0].step == 50)
    training.train(10)
    training.check()
    lines = stop(process).splitlines()
    [warning] = [line for line in lines if WARNING in line]
    assert reason in warning
    assert "ROOMGRAD_SNAPSHOTS" in warning
    assert sum(AGAIN in line for line in lines) == 1
    assert bytes(training.read(training.snapshots()[0])) == one_process(60, SIZE).dump()


def snapshot_files(store: Path) -> list[Path]:
    """Return the files in a store but probes, also incomplete ones."""
    found = (each for each in store.rglob("*") if each.is_file())
    return [each for each in found if not each.name.startswith("probe-")]


def test_a_server_whose_memory_is_full(own_training: Training) -> None:
    """What is open is learned to its end; roots that are new wait, as with any component."""
    training, count = own_training, 10
    training.settings = dict(OFTEN)
    first = training.spawn()
    replies = [training.echo.wait_reply(training.open()) for _ in range(count)]
    stop(first)
    for number, reply in enumerate(replies):
        training.answer(reply, number)
    training.client.config_set("maxmemory", "1mb")
    second = training.spawn()
    for reply in replies:
        training.home(reply)
    [beat] = training.client.scan_iter(training.names.alive(f"*~{second.pid}~*"), count=1000)
    until(lambda: b"cannot take a snapshot" in (training.client.get(beat) or b""))
    assert training.snapshots()[0].step == 0
    training.client.config_set("maxmemory", "0")
    until(lambda: training.snapshots()[0].step == count)
    training.check()
    lines = stop(second).splitlines()
    assert sum(WARNING in line for line in lines) == sum(AGAIN in line for line in lines) == 1
    model = Squares(SIZE)
    for number in range(count):
        step(model, number, np.ones(BATCH, "<f4"))
    assert bytes(training.read(training.snapshots()[0])) == model.dump()
