"""The formula of docs/scale.md: parts add up, and what it says of a limit holds at the limit."""

from __future__ import annotations

import pytest

from tests.benchmarks.scale import formula
from tests.benchmarks.scale.formula import HELD, Constants, Load

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
    load = Load(2, streams=3)
    expected = 10 + 2 * ONE.replica + 3 * HELD * ONE.retained
    assert formula.memory(ONE, load, empty=10) == expected
