"""Snapshots that cannot be written: training goes on, one line says so, and they come at last."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.model.conftest import BATCH, Training, one_process, step, stop
from tests.integration.model.learner import Squares
from tests.waiting import until

SIZE = 400
OFTEN = {"log_bytes": 0, "again_s": 0.01, "retry_s": 0.1, "durable_s": 0.1, "size": SIZE}
WARNING, AGAIN = "no snapshot was taken, trying again", "a snapshot was taken again"


@contextmanager
def disk_full(process: subprocess.Popen[bytes], store: Path) -> Iterator[str]:
    """Let the process write no file of more than 1,000 bytes; yield what the log says of it."""
    before = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, before[1]))
    yield "File too large"
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def store_gone(process: subprocess.Popen[bytes], store: Path) -> Iterator[str]:
    """Put a file in the place of the store, as no folder can be made there then."""
    aside = store.with_name("aside")
    store.rename(aside)
    store.touch()
    yield "cannot be written by user id"
    store.unlink()
    aside.rename(store)


@pytest.mark.parametrize("without", [disk_full, store_gone])
def test_a_store_that_cannot_be_written(training: Training, without: Any, tmp_path: Path) -> None:
    """The log grows meanwhile, by which any replica has the state."""
    store = tmp_path / "store"
    training.settings = {**OFTEN, "snapshots": store.as_uri(), "snapshot_redis_mib": 0}
    process = training.spawn()
    training.train(10)
    until(lambda: training.snapshots()[0].step == 10)
    with without(process, store) as reason:
        training.train(40)
        assert training.snapshots()[0].step == 10
        assert len(training.records()) >= 40
        training.check_counts()
    until(lambda: training.snapshots()[0].step == 50)
    training.train(10)
    training.check()
    lines = stop(process).splitlines()
    [warning] = [line for line in lines if WARNING in line]
    assert reason in warning
    assert "ROOMGRAD_SNAPSHOTS" in warning
    assert sum(AGAIN in line for line in lines) == 1
    assert bytes(training.read(training.snapshots()[0])) == one_process(60, SIZE).dump()


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
