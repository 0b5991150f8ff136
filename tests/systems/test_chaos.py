"""Broken on purpose: every fault at random instants, and nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.account import Account
from tests.chaos.contest import contest
from tests.chaos.environment import SHORT, Times
from tests.chaos.play import play, turn_over
from tests.chaos.rivals import PUBSUB

RECOVERY_S = 1.0  # from an answer of the server to the next delivery, at p99
LEASES = 1.5  # until the work of a dead replica is taken over
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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_harness_sees_what_others_lose(tmp_path: Path) -> None:
    """A harness that finds nothing proves nothing: plain pub/sub loses under the same faults."""
    account = contest(PUBSUB, 1, 1000, SHORT, tmp_path, ["kill -9 of a component", "CLIENT KILL"])
    assert account.lost > 0


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_seeds_at_the_times_of_every_day(tmp_path: Path) -> None:
    """10,000 messages a seed, outages of 30 s, and how long everything takes."""
    times = Times()
    accounts = []
    for seed in range(1, 21):
        (tmp_path / str(seed)).mkdir()
        accounts.append(play(seed, 10_000, times, tmp_path / str(seed)))
        assert_exact(accounts[-1])
    seen = [each for account in accounts for each in account.seen]
    recoveries = [seconds for each in seen for seconds in each.recovery_s]
    assert report.percentile(recoveries, 0.99) <= RECOVERY_S
    assert max(seconds for each in seen for seconds in each.takeover_s) <= LEASES * times.lease_s
