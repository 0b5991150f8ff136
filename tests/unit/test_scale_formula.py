"""The formula of docs/scale.md: parts add up, and what it says of a limit holds at the limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.scale import formula
from tests.benchmarks.scale.formula import Constants, Load, held
from tests.benchmarks.scale.outlook import most_replicas, outlook

ONE = Constants(*[float(number) for number in range(1, 19)])


def test_parts_of_a_load_add_up() -> None:
    """Messages, hearts and rings cost what each of them costs."""
    both = formula.server_cpu(ONE, Load(3, messages_s=5))
    hearts = formula.server_cpu(ONE, Load(3))
    messages = formula.server_cpu(ONE, Load(0, messages_s=5))
    assert both == pytest.approx(hearts + messages)
    heard = formula.server_cpu(ONE, Load(0, messages_s=5, bystanders=2))
    alone = formula.server_cpu(ONE, Load(0, messages_s=5))
    assert heard - alone == pytest.approx(5 * 2 * ONE.ring_us / 1e6)


def test_a_server_at_its_limit_is_busy_all_the_time() -> None:
    """With hearts to hear, and rings to pass on."""
    most = formula.most_messages_s(ONE, replicas=100, bystanders=7)
    assert formula.server_cpu(ONE, Load(100, most, 7)) == pytest.approx(1.0)


def test_hearts_alone_can_fill_a_server() -> None:
    """Then nothing is left for messages, and not less than nothing."""
    assert formula.most_steps_s(ONE, replicas=2e6) == 0.0
    assert formula.most_messages_s(ONE, replicas=2e6) == 0.0


def test_memory_is_that_of_replicas_and_histories() -> None:
    """Beside what an empty server has."""
    load = Load(2, streams=3, roots=5)
    expected = 10 + 2 * ONE.replica + 3 * held(0) * ONE.retained + 5 * ONE.root
    assert formula.memory(ONE, load, empty=10) == expected


def test_more_runs_share_what_one_server_can_do() -> None:
    """And need more servers in proportion to go as fast as alone."""
    costs = replace(ONE, step_us=1000, beat_us=100, connections=4)
    ten, hundred = outlook(costs, 10), outlook(costs, 100)
    assert ten.steps_s == pytest.approx((1e6 - 30 * 100) / 1000 / 10)
    assert hundred.steps_s < ten.steps_s / 10
    assert hundred.connections == 1200
    assert (ten.servers, hundred.servers) == (5, 43)


def test_what_is_full_first_is_said() -> None:
    """10,000 connections are 2,500 replicas of four; hearts of 100 us fill a core at 10,000."""
    costs = replace(ONE, beat_us=100, connections=4)
    assert most_replicas(costs) == {"connections": 2500, "heartbeats": 10_000}
