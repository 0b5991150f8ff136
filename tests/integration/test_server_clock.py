"""A server whose clock jumps by an hour, back and forth, or is fast by one percent."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from roomgrad.testing import throwaway_server
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import REPLIES, echo_component, later
from tests.waiting import until

HOUR_S = 3600
MESSAGES = 10
Clock = Callable[[str], None]

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(LIBRARY is None, reason="no libfaketime: apt install libfaketime"),
]


@pytest.fixture
def clocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[EchoRun, Clock]]:
    """Yield a run on a server of its own, and what sets the server's clock."""
    rate = tmp_path / "clock"
    rate.write_text("+0")
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as environ:
            environ.setenv("LD_PRELOAD", str(LIBRARY))
            environ.setenv("FAKETIME_TIMESTAMP_FILE", str(rate))
            environ.setenv("FAKETIME_NO_CACHE", "1")
            environ.setenv("DONT_FAKE_MONOTONIC", "1")
            server = stack.enter_context(throwaway_server())
        for echo in make_echo_run(server.url):
            yield echo, partial(set_clock, echo, rate)


def set_clock(echo: EchoRun, rate: Path, to: str) -> None:
    """Set the server's clock, and wait until it is."""
    rate.write_text(to)
    ahead_s = float(to.partition(" ")[0])
    until(lambda: abs(echo.client.time()[0] - time.time() - ahead_s) < HOUR_S / 2)


@pytest.mark.parametrize(
    "jumps",
    [(f"+{HOUR_S}",), (f"-{HOUR_S}",), (f"+{HOUR_S}", "+0", f"-{HOUR_S}", "+0"), ("+0 x1.01",)],
    ids=["forth", "back", "to and fro", "fast"],
)
def test_each_message_is_handled_once_across_jumps(
    clocked: tuple[EchoRun, Clock], jumps: tuple[str, ...]
) -> None:
    """Two replicas, of which one dies behind the last jump; entries keep their order."""
    echo, set_to = clocked
    echo.start(echo_component())
    process = echo.spawn("repeat")
    until(lambda: len(list(echo.client.scan_iter(f"{echo.names.alive('echo')}*"))) == 2)
    sent = [echo.send(number) for number in range(MESSAGES)]
    for jump in jumps:
        set_to(jump)
        sent += [echo.send(number) for number in range(MESSAGES)]
    process.kill()
    sent += [echo.send(number) for number in range(MESSAGES)]
    set_to("+0")  # what the dead replica was given before a jump back waits for this
    for message in sent:
        assert echo.wait_reply(message).array.tolist() == [2 * message.array[0]]
    assert echo.counter("received") == echo.reply_count() == len(sent)
    until(lambda: echo.pending() == 0)
    entries = [each.entry for each in sent]
    assert entries == sorted(entries, key=lambda entry: tuple(map(int, entry.split("-"))))


def test_a_delayed_message_comes_once_by_the_servers_clock(
    clocked: tuple[EchoRun, Clock],
) -> None:
    """It is an hour early or late, with the clock, and never twice."""
    echo, set_to = clocked
    echo.start(echo_component(later))
    echo.wait_reply(echo.send(0))
    delayed = echo.send(HOUR_S - 60)
    until(lambda: echo.counter("received") == 2)
    set_to(f"-{HOUR_S}")
    echo.wait_reply(echo.send(0))
    assert echo.reply_count() == 2
    set_to(f"+{HOUR_S}")
    assert echo.wait_reply(delayed).array.tolist() == [HOUR_S - 60]
    set_to("+0")
    echo.wait_reply(echo.send(0))
    assert echo.reply_count() == 4
    assert echo.client.xlen(echo.names.stream(*REPLIES.key)) == 4
