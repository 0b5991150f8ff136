"""States of a model stay as a policy says, and the run goes back to one of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad.codec import pack
from roomgrad.errors import RoomgradError, SettingsError, SnapshotError
from roomgrad.inspect import checkpoints
from roomgrad.inspect.checkpoints import Kept
from roomgrad.ops import model_state
from roomgrad.runtime.health import check
from roomgrad.runtime.model.log import GRADIENT, StepRecord
from roomgrad.snapshots.checkpoints import Policy
from tests.integration.model.conftest import Training, ended, killed, one_process, step, stop
from tests.integration.model.learner import Squares
from tests.integration.model.test_backup import in_files, in_redis, moved, saved
from tests.integration.model.test_damage import piece
from tests.integration.model.test_snapshotter import pieces
from tests.waiting import until

EVERY, SIZE = 10, 400
OFTEN = {"log_bytes": 0, "again_s": 0.01, "durable_s": 0.1, "size": SIZE}


def keep(training: Training, **policy: Any) -> None:
    """Set the policy."""
    given = Policy(**{"every": EVERY, "last": 100, **policy})
    model_state.keep(training.client, training.names, "echo", given)


def kept(training: Training) -> Kept:
    return checkpoints.find(training.client, training.names, "echo")


def steps(training: Training) -> list[int]:
    return [each.step for each in kept(training).checkpoints]


def train_to_checkpoints(training: Training, count: int) -> None:
    """Train to so many multiples more; wait at each until its checkpoint is stored."""
    for _ in range(count):
        training.train(EVERY)
        until(lambda: training.number in steps(training))


def expect_states(training: Training) -> None:
    """Require that each checkpoint is the state that one process has after as many steps."""
    for each in kept(training).checkpoints:
        try:
            content = training.read(each)
        except SnapshotError:  # it was dropped meanwhile
            assert each not in kept(training).checkpoints
        else:
            assert bytes(content) == one_process(each.step, SIZE).dump()


def roll_back(training: Training, to: int) -> Squares:
    """Go back to a checkpoint; return a model of this process that is in its state."""
    before = training.step()
    found = model_state.roll_back(training.client, training.names, "echo", to)
    assert found.snapshot.step == before == training.step()
    assert bytes(found.content) == one_process(to, SIZE).dump()
    return one_process(to, SIZE)


def follow(training: Training, alone: Squares, count: int) -> None:
    """Train in rooms and alone; require that both have the same state in the end."""
    first = training.number
    training.train(count)
    for number in range(first, first + count):
        step(alone, number)
    assert training.content() == alone.dump()


@pytest.mark.parametrize("where", ["redis", "file"])
def test_the_last_stay_and_others_are_deleted(
    training: Training, where: str, tmp_path: Path
) -> None:
    training.settings = {**OFTEN}
    if where == "file":
        training.settings |= {"snapshots": tmp_path.as_uri(), "snapshot_redis_mib": 0}
    process = training.spawn()
    keep(training, last=2)
    train_to_checkpoints(training, 6)
    stop(process)
    assert steps(training) == [60, 50]
    expect_states(training)
    training.check()
    names = {each.place.rpartition("/")[2] for each in training.snapshots()}
    if where == "file":
        assert {each.name for each in tmp_path.rglob("*.snapshot")} == names
    else:
        assert {f"redis:{name}" for name in pieces(training)} == names


@pytest.mark.parametrize("point", ["write 3", "piece 3", "point 3", "pointed 3"])
def test_another_replica_takes_that_of_one_that_was_killed(training: Training, point: str) -> None:
    """It does not wait until the lease has expired."""
    training.settings = {**OFTEN, "log_bytes": 2**30, "piece_bytes": 1024}
    first = training.spawn(die=point)
    keep(training)
    with ThreadPoolExecutor() as pool:
        trained = pool.submit(train_to_checkpoints, training, 5)
        killed(first)
        training.spawn()
        trained.result()
    assert steps(training) == [50, 40, 30, 20, 10]
    expect_states(training)


def test_each_multiple_has_one_under_load(training: Training) -> None:
    """Three replicas train at full speed, of which one is killed while it takes one."""
    training.settings = dict(OFTEN)
    first = training.spawn(die="point 4")
    for _ in range(2):
        training.spawn()
    keep(training, last=4)
    with ThreadPoolExecutor() as pool:
        trained = pool.submit(training.train, 200)
        while not trained.done():
            assert len(kept(training).checkpoints) <= 4
            expect_states(training)
        trained.result()
    killed(first)
    assert len({each // EVERY for each in steps(training)}) == 4
    training.check()
    assert training.content() == one_process(200, SIZE).dump()


# the best


def measure(training: Training, loss: float, count: int = EVERY) -> None:
    """Write records as a component does that measures each batch."""
    table = training.names.table("losses")
    first = training.client.hlen(table)
    for number in range(first, first + count):
        training.client.hset(table, str(number), pack({"step": number, "loss": loss + number % 2}))


@pytest.mark.parametrize(("highest", "best"), [(False, 20), (True, 10)])
def test_the_best_stays(training: Training, highest: bool, best: int) -> None:
    training.settings = dict(OFTEN)
    training.spawn()
    keep(training, last=1, best="losses.loss", highest=highest)
    for loss in (4.0, 1.0, 2.0, 3.0):
        measure(training, loss)
        train_to_checkpoints(training, 1)
    found = kept(training)
    assert [each.step for each in found.checkpoints] == [40, best]
    assert found.best == found.checkpoints[1]
    means = {each.step: each.score and each.score.mean for each in found.checkpoints}
    assert means == {40: 3.5, best: {20: 1.5, 10: 4.5}[best]}


def test_records_that_cannot_be_read_count_for_nothing(training: Training) -> None:
    training.settings = dict(OFTEN)
    training.spawn()
    keep(training, best="losses.loss")
    table = training.names.table("losses")
    for number, value in enumerate([b"\xff", pack({"loss": "high"}), pack({"loss": np.zeros(9)})]):
        training.client.hset(table, str(number), value)
    train_to_checkpoints(training, 1)
    measure(training, 5.0, 4)
    train_to_checkpoints(training, 1)
    scores = [each.score and each.score.mean for each in kept(training).checkpoints]
    assert scores == [5.5, None]


# going back


def test_replicas_go_on_from_a_checkpoint(training: Training) -> None:
    """To the bits of one process that does; the checkpoint stays."""
    training.settings = dict(OFTEN)
    for _ in range(3):
        training.spawn()
    keep(training)
    train_to_checkpoints(training, 2)
    training.train(5)
    alone = roll_back(training, 10)
    follow(training, alone, 5)
    training.check()
    until(lambda: 30 in steps(training))
    assert steps(training) == [30, 20, 10]
    again = roll_back(training, 20)
    follow(training, again, 10)
    training.check()


def test_an_open_root_gets_the_gradient_of_its_forward(training: Training) -> None:
    training.settings = dict(OFTEN)
    training.spawn()
    keep(training)
    train_to_checkpoints(training, 1)
    training.train(2)
    forward = one_process(12, SIZE).weights()
    reply = training.echo.wait_reply(training.open())
    alone = roll_back(training, 10)
    training.answer(reply, 12)
    training.home(reply)
    step(alone, 12, forward)
    follow(training, alone, 3)
    training.check()


def test_no_replica_has_to_live(training: Training) -> None:
    training.settings = dict(OFTEN)
    process = training.spawn()
    keep(training)
    train_to_checkpoints(training, 2)
    stop(process)
    alone = roll_back(training, 10)
    training.spawn()
    follow(training, alone, 3)
    training.check()


@pytest.mark.parametrize("where", [in_redis, in_files])
def test_a_restored_run_goes_back_too(training: Training, where: Any, tmp_path: Path) -> None:
    training.settings = {**OFTEN, **where(tmp_path / "here")}
    process = training.spawn()
    keep(training)
    train_to_checkpoints(training, 2)
    stop(process)
    saved(training, tmp_path / "copy")
    other = moved(training, tmp_path / "copy", where(tmp_path / "there"))
    assert kept(other).policy == kept(training).policy
    assert steps(other) == [20, 10]
    alone = roll_back(other, 10)
    other.spawn()
    follow(other, alone, 3)


def test_it_leads_out_of_a_step_that_cannot_be_applied(training: Training) -> None:
    training.settings = dict(OFTEN)
    process = training.spawn()
    keep(training)
    train_to_checkpoints(training, 2)
    stop(process)
    break_log(training)
    *lines, sentence = ended(training.spawn(), 1).splitlines()
    assert sum("a step cannot be applied, trying again" in line for line in lines) == 2
    assert "step 21 of echo" in sentence
    assert "roomgrad model echo --rollback STEP" in sentence
    with pytest.raises(RoomgradError) as unhealthy:
        check("echo", training.names.run, training.echo.url)
    assert sentence.removeprefix("echo: ") in str(unhealthy.value)
    alone = roll_back(training, 20)
    with pytest.raises(RoomgradError, match="it does not run here"):
        check("echo", training.names.run, training.echo.url)
    training.spawn()
    follow(training, alone, 3)
    assert check("echo", training.names.run, training.echo.url) == "echo is well."


def test_replicas_that_live_end_by_a_step_that_cannot_be_applied(training: Training) -> None:
    """Those that the step reaches while they are idle, too."""
    training.settings = dict(OFTEN)
    processes = [training.spawn() for _ in range(2)]
    keep(training)
    train_to_checkpoints(training, 1)
    break_log(training)
    for process in processes:
        assert "step 11 of echo" in ended(process, 1)
    alone = roll_back(training, 10)
    training.spawn()
    follow(training, alone, 3)


def test_it_leads_out_when_the_newest_snapshots_are_gone(training: Training) -> None:
    """Replicas do not load a checkpoint that is older than the log, which leads nowhere."""
    training.settings = {**OFTEN, "durable_s": 0.0}
    process = training.spawn()
    keep(training)
    train_to_checkpoints(training, 6)
    stop(process)
    begin = training.client.xrange(training.names.steps("echo"), count=1)[0][0].decode()
    gone = [each for each in training.snapshots() if each.entry >= begin]
    old = [each for each in training.snapshots() if each.entry < begin]
    assert {each.step for each in old} >= {10, 20}
    for each in gone:
        training.client.delete(piece(training, each, 0))
    sentence = ended(training.spawn(), 1).splitlines()[-1]
    assert all(f"{each.place} is missing" in sentence for each in gone)
    assert not any(each.version in sentence for each in old)
    assert "roomgrad model echo --rollback STEP" in sentence
    alone = roll_back(training, 20)
    training.spawn()
    follow(training, alone, 3)


def break_log(training: Training) -> None:
    """Write a step that no replica can apply, as one of another network would."""
    version, number = training.client.hget(training.key, "version").decode(), training.number + 1
    body = pack({"kind": GRADIENT, "values": np.zeros(3, "<f4"), "staleness": 0})
    record = StepRecord(version, f"{number}-bad", number, body)
    entry = [training.names.steps("echo"), "*", *record.fields()]
    training.client.execute_command("XADD", *entry)
    training.client.hset(training.key, mapping={"version": record.version, "step": number})
    training.number += 1


def test_what_is_not_kept_is_named_with_what_is(training: Training) -> None:
    training.settings = dict(OFTEN)
    with pytest.raises(RoomgradError, match="echo has no model in run"):
        keep(training)
    assert not training.client.exists(training.key)
    training.spawn()
    with pytest.raises(SettingsError, match="has no checkpoint; `roomgrad keep echo --every 100`"):
        model_state.roll_back(training.client, training.names, "echo", 10)
    keep(training)
    train_to_checkpoints(training, 2)
    before = training.client.hgetall(training.key)
    with pytest.raises(SettingsError, match="no checkpoint of this step, but of 10, 20"):
        model_state.roll_back(training.client, training.names, "echo", 15)
    assert training.client.hgetall(training.key) == before
