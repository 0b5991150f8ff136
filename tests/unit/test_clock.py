"""Time by the server's clock, however this machine's clock jumps."""

from __future__ import annotations

import time

import pytest

from roomgrad.clock import ServerClock

HOUR_S = 3600.0


def answering(clock_s: float, takes_s: float = 0.0) -> object:
    """Return the call of a server whose clock shows `clock_s` when it gets TIME."""

    def call(command: list[bytes]) -> list[bytes]:
        assert command == [b"TIME"]
        time.sleep(takes_s)
        seconds, rest = divmod(clock_s, 1)
        return [b"%d" % seconds, b"%d" % round(rest * 1e6)]

    return call


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_a_jump_of_this_machines_clock_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock, real = ServerClock(), time.time
    before = clock.time()
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert 0 <= clock.time() - before < 60


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
def test_the_servers_clock_counts_and_not_this_machines(ahead_s: float) -> None:
    clock = ServerClock()
    clock.read(answering(time.time() + ahead_s))  # type: ignore[arg-type]
    assert clock.time() == pytest.approx(time.time() + ahead_s, abs=30)
    assert clock.unix_ns(time.monotonic_ns()) / 1e9 == pytest.approx(clock.time(), abs=30)


def test_a_slow_reply_that_proves_nothing_does_not_shift_the_clock() -> None:
    clock = ServerClock()
    before = clock.unix_ns(0)
    clock.read(answering(clock.time(), takes_s=0.2))  # type: ignore[arg-type]
    assert clock.unix_ns(0) == pytest.approx(before, abs=10_000)  # TIME has microseconds
    clock.read(answering(clock.time() + 0.3, takes_s=0.2))  # type: ignore[arg-type]
    assert clock.unix_ns(0) == pytest.approx(before + 100_000_000, abs=90_000_000)


def test_a_server_that_refuses_raises_what_it_says() -> None:
    with pytest.raises(ValueError, match="no permission"):
        ServerClock().read(lambda _command: ValueError("no permission"))
