"""Machines that compute other bits: it is noticed, and the run goes on with those of one."""

from __future__ import annotations

from roomgrad.codec import unpack
from roomgrad.redis import heartbeats
from roomgrad.redis.heartbeats import Heartbeat
from roomgrad.runtime.model.store import FINGERPRINT_EVERY
from roomgrad.runtime.status import STANDS_BY
from tests.integration.model.conftest import Training, stop

WARNING = "this machine computes other bits"
OTHER = 0.0100001


def kinds(training: Training) -> list[str]:
    return [str(unpack(each.body)["kind"]) for each in training.records()]


def test_another_machine_goes_on_with_its_own_bits(training: Training) -> None:
    """It says so once, and what the next replica loads is what it had."""
    first = training.spawn()
    # Another one holds the lease, so that the first leaves no snapshot, not even when it is idle.
    held = {training.names.snapshot_lease("echo"): "other", training.names.alive("other"): ""}
    training.client.mset(held)
    training.train(FINGERPRINT_EVERY + 6)
    first.kill()
    training.client.delete(*held)
    second = training.spawn(rate=OTHER)
    training.train(10)
    assert kinds(training).count("state") == 1
    after_second = training.content()
    assert stop(second).count(WARNING) == 1
    third = training.spawn(rate=OTHER)
    assert training.content() == after_second
    training.train(5)
    assert WARNING not in stop(third)
    training.check()


def test_machines_of_one_kind_notice_nothing(training: Training) -> None:
    """Each repeats the steps of the other, past several fingerprints."""
    replicas = [training.spawn() for _ in range(2)]
    training.train(2 * FINGERPRINT_EVERY + 2)
    assert set(kinds(training)) == {"gradient"}
    assert not any(WARNING in stop(each) for each in replicas)


def test_one_of_two_machines_stands_by(training: Training) -> None:
    """Neither replaces the state of the other in turns; it goes on when the other one is dead."""
    training.settings = {"durable_s": 1000.0}  # so that the log keeps all records
    replicas = [training.spawn(), training.spawn(rate=OTHER)]
    training.train(3 * FINGERPRINT_EVERY)
    [idle] = [each.pid for each in beats(training) if each.waits == STANDS_BY]
    assert set(kinds(training)) == {"gradient"}
    handled = training.content()
    [working] = [each for each in replicas if each.pid != idle]
    working.kill()
    training.train(10)
    assert kinds(training).count("state") <= 1
    assert training.content() != handled
    training.check()
    [other] = beats(training)
    assert (other.pid, other.waits) == (idle, "")


def beats(training: Training) -> list[Heartbeat]:
    return heartbeats.find(training.client, training.names, "echo")
