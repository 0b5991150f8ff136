"""Everything that reads bytes of others gets bad ones: see `python -m tests.fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import play, show, wrong
from tests.fuzz.targets import TARGETS, Target


def test_some_thousand_inputs() -> None:
    """Nothing but the errors that are documented comes out, in time, and no memory is lost."""
    accounts = play(list(TARGETS), 15_000, seed=7)
    assert wrong(accounts) == []
    assert sum(each.inputs for each in accounts) >= 15_000
    assert all(each.taken for each in accounts)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_inputs() -> None:
    """The same, more than a million times."""
    accounts = play(list(TARGETS), 1_000_100, seed=1)
    show(accounts)
    assert wrong(accounts) == []
    assert sum(each.inputs for each in accounts) >= 1_000_000


def test_a_crash_is_one() -> None:
    """The account of a target that is broken in three ways says so."""

    def broken(data: bytes) -> None:
        if data.startswith(b"ab"):
            raise KeyError(data)
        if data.startswith(b"a"):
            raise RecursionError
        if data:
            raise ValueError

    target = Target("broken", broken, (ValueError,), (b"abc", b"acb", b"cba"), 1.0)
    [account] = play([target], 300, seed=1)
    assert account.inputs == 300
    assert account.refused > 0
    assert account.taken > 0
    assert account.crashed == account.inputs - account.refused - account.taken
    assert [sentence.partition(" at ")[0] for sentence in sorted(wrong([account]))] == [
        "broken: KeyError",
        "broken: RecursionError",
    ]
