"""How many messages are read at once: by the slowest and the largest of late."""

from __future__ import annotations

import pytest

from roomgrad.runtime.read_count import GROUP_BYTES, GROUP_S, MOST, ReadCount


def after(*messages: tuple[float, int]) -> int:
    """Return the count after messages of so many seconds and bytes."""
    count = ReadCount(10)
    for seconds, size in messages:
        count.note(seconds, size)
    return count.next


FAST = [(GROUP_S / 100, 100)] * 50


def test_the_first_message_is_read_alone() -> None:
    assert after() == 1


def test_fast_and_small_messages_are_read_together() -> None:
    assert after(*FAST) == MOST


@pytest.mark.parametrize("message", [(GROUP_S * 0.6, 100), (60.0, 100), (0.0, GROUP_BYTES)])
def test_after_a_slow_or_large_message_one_is_read(message: tuple[float, int]) -> None:
    assert after(*FAST, message) == 1
    assert after(*FAST, message, *FAST, *FAST) == MOST


def test_as_many_are_read_as_fit_into_the_time() -> None:
    assert after(*[(GROUP_S / 4.5, 100)] * 50) == 4


def test_one_slow_message_of_twenty_keeps_groups_small() -> None:
    """Else a replica would hold what others could handle, once in each twenty messages."""
    assert after(*FAST, (1.0, 100), *FAST[:19]) == 1


def test_a_message_that_may_be_delivered_once_is_read_alone() -> None:
    """Each that is read counts as delivered, and a kill would make dead letters of all of them."""
    count = ReadCount(1)
    for _ in range(100):
        count.note(0.0001, 10)
    assert count.next == 1
