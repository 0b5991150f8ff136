"""Snapshots that are replaced while they are read: the newer ones are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from roomgrad.inspect import models
from roomgrad.redis.connection import Connection
from roomgrad.runtime.model.follower import Follower
from roomgrad.snapshots import pointers
from tests.integration.model.conftest import Training
from tests.integration.model.learner import Squares

SIZE = 400
OFTEN = {"log_bytes": 0, "again_s": 0.01, "durable_s": 0.1, "size": SIZE, "piece_bytes": 1024}


@pytest.fixture(params=["redis", "file"])
def stored(training: Training, request: pytest.FixtureRequest, tmp_path: Path) -> Training:
    """Return a run that has learned, and takes a snapshot after most steps."""
    training.settings = dict(OFTEN)
    if request.param == "file":
        training.settings |= {"snapshots": tmp_path.as_uri(), "snapshot_redis_mib": 0}
    training.start()
    training.train(5)
    return training


def replacing(training: Training, execute: Callable[..., Any]) -> Callable[..., Any]:
    """Return what executes commands; once pointers were read, all of those snapshots are replaced.

    As if this process was frozen then.
    """
    read = False

    def call(*words: bytes | str, **options: Any) -> Any:
        nonlocal read
        reply = execute(*words, **options)
        if pointers.FIELD in words and not read:
            read = True
            then = {each.place for each in training.snapshots()}
            while then & {each.place for each in training.snapshots()}:
                training.train(5)
        return reply

    return call


def test_a_replica_loads_those_that_have_replaced_what_it_was_about_to_load(
    stored: Training,
) -> None:
    connection = Connection(stored.echo.url)
    connection.connect()
    call = replacing(stored, lambda *words: connection.call([*words]))
    follower = Follower(stored.names, "echo", lambda: Squares(SIZE), lambda words: call(*words))
    follower.run_token = stored.client.hget(stored.names.run_info(), "token").decode()
    follower.follow_newest()
    connection.close()
    assert follower.step == stored.step() > 5
    assert bytes(follower.trainable.dump()) == stored.content()


def test_the_state_of_a_model_is_read_although_its_snapshots_were_replaced(
    stored: Training,
) -> None:
    class Frozen(redis.Redis):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.execute_command = replacing(stored, super().execute_command)

    with Frozen(connection_pool=redis.ConnectionPool.from_url(stored.echo.url)) as client:
        found = models.stored(client, stored.names, "echo", wait_s=0)
    assert found.snapshot in stored.snapshots()
    assert bytes(found.content) == bytes(stored.read(found.snapshot))
