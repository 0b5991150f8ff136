"""Broken on purpose: every fault at random instants, and nothing is lost or doubled."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from roomgrad.local.embedded import EmbeddedServer
from roomgrad.names import Names
from tests.chaos import report
from tests.chaos.account import Account
from tests.chaos.contest import contest
from tests.chaos.environment import SHORT, Environment, RealModel, Times
from tests.chaos.faults import FAULTS
from tests.chaos.graph import GRAPH
from tests.chaos.graph_faults import GRAPH_FAULTS, GRAPH_SHORT
from tests.chaos.model_faults import MODEL_FAULTS, MODEL_SHORT
from tests.chaos.play import learn, learn_under_sentinel, play, turn_over
from tests.chaos.processes import Processes
from tests.chaos.rivals import PUBSUB

RECOVERY_S = 1.0  # from an answer of the server to the next delivery, at p99
LEASES = 1.5  # until the work of a dead replica is taken over
PARAMETERS = 1_000_000
STREAM_BYTES = 4 * 17 * 2**20  # four streams of 16 MiB of history at most


def assert_exact(account: Account) -> None:
    """Nothing lost, doubled, dead or left over, and every process ended as it should."""
    assert report.exact(account), report.line(account)
    assert account.stream_bytes < STREAM_BYTES


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_under_any_fault(tmp_path: Path) -> None:
    """Two replicas of three components, and each fault once."""
    assert_exact(play(1, 2000, SHORT, tmp_path))


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_nothing_is_lost_or_doubled_by_a_failover(tmp_path: Path) -> None:
    """The same work under Sentinel, whose masters die, freeze and are replaced."""
    assert_exact(turn_over(1, 500, SHORT, tmp_path))


@pytest.mark.timeout(300)
def test_a_graph_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Kills between the parts of a join, late parts, parts that come twice, a server restarted."""
    assert_exact(play(1, 500, SHORT, tmp_path, GRAPH, GRAPH_SHORT, first={}))


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_graph_loses_and_doubles_nothing_under_any_fault(tmp_path: Path, seed: int) -> None:
    """An ensemble that branches and joins: each gradient, sum and count of its late parts."""
    account = play(seed, 5000, SHORT, tmp_path, GRAPH, GRAPH_FAULTS)
    assert_exact(account)
    assert account.late > 0


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_a_graph_loses_and_doubles_nothing_by_a_failover(tmp_path: Path) -> None:
    """The same graph under Sentinel."""
    assert_exact(turn_over(1, 500, SHORT, tmp_path, GRAPH))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_model_of_a_million_parameters_is_that_of_its_log(tmp_path: Path) -> None:
    """Kills of snapshotters and between commit and step, full disks, a server that falls back."""
    model = RealModel(PARAMETERS, tmp_path, in_files=True, window=1)
    assert_exact(learn(model, 1, 0, SHORT, MODEL_SHORT))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("in_files", [True, False], ids=["files", "redis"])
@pytest.mark.parametrize("window", [1, 2])
def test_a_model_of_a_million_parameters_under_any_fault(
    tmp_path: Path, window: int, in_files: bool
) -> None:
    """Kills of the server and of several processes, frozen ones and dead connections, too."""
    model = RealModel(PARAMETERS, tmp_path, in_files, window)
    account = learn(model, window, 4000, SHORT, {**FAULTS, **MODEL_FAULTS})
    assert_exact(account)
    assert bool(account.stale) == (window > 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_of_a_million_parameters_after_a_failover_that_loses_a_second(
    tmp_path: Path,
) -> None:
    """Its snapshots are files, of which some are newer than the history."""
    model = RealModel(PARAMETERS, tmp_path, in_files=True, window=1)
    assert_exact(learn_under_sentinel(model, 1, 2000, SHORT, rounds=3))


def test_the_harness_waits_for_a_server_that_does_not_answer_yet(tmp_path: Path) -> None:
    """It counts from the first answer, as after a failover to a master that is hardly there."""
    with EmbeddedServer.start(tmp_path, die_with_parent=True) as server:
        client = redis.Redis.from_url(server.url, retry=None)
        processes = Processes(lambda name: [], [], 0, tmp_path)
        dice, names = random.Random(1), Names("harness")
        environment = Environment(server, None, client, names, processes, dice, SHORT, True)
        server.kill()
        assert environment.progress() == -1
        with ThreadPoolExecutor(1) as pool:
            seconds = pool.submit(environment.next_delivery_s)
            environment.restart_server()
            with environment.server:
                while not seconds.done():
                    client.xadd(names.log("labels"), {"m": b"{}"})
            assert seconds.result() > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_harness_sees_what_others_lose(tmp_path: Path) -> None:
    """A harness that finds nothing proves nothing: plain pub/sub loses under the same faults."""
    account = contest(PUBSUB, 1, 1000, SHORT, tmp_path, ["kill -9 of a component", "CLIENT KILL"])
    assert account.lost > 0


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_some_seeds_at_the_times_of_every_day(tmp_path: Path) -> None:
    """10,000 messages a seed, outages of 30 s, and how long everything takes.

    Six seeds take twelve minutes, one after another so that none delays another; `make chaos
    SEEDS=20` plays twenty.
    """
    times = Times()
    accounts = []
    for seed in range(1, 7):
        (tmp_path / str(seed)).mkdir()
        accounts.append(play(seed, 10_000, times, tmp_path / str(seed)))
        assert_exact(accounts[-1])
    seen = [each for account in accounts for each in account.seen]
    recoveries = [seconds for each in seen for seconds in each.recovery_s]
    assert report.percentile(recoveries, 0.99) <= RECOVERY_S
    assert max(seconds for each in seen for seconds in each.takeover_s) <= LEASES * times.lease_s
