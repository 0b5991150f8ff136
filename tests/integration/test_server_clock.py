"""A server whose clock jumps by an hour, back and forth, or is fast by one percent."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from roomgrad.testing import throwaway_server
from tests.integration.clocks import HOUR_S, JUMPS, NEEDS_LIBRARY, Clock
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import REPLIES, echo_component, later
from tests.integration.graphs.branch import batch
from tests.integration.graphs.join_run import JoinRun
from tests.integration.graphs.joins import FORWARD, JOINED, OUT, head, owner
from tests.waiting import until

MESSAGES = 10
SetClock = Callable[[str], None]

pytestmark = NEEDS_LIBRARY


@pytest.fixture
def clocked(tmp_path: Path) -> Iterator[tuple[EchoRun, SetClock]]:
    """Yield a run on a server of its own, and what sets the server's clock."""
    clock = Clock(tmp_path)
    with contextlib.ExitStack() as stack:
        with clock.around():
            server = stack.enter_context(throwaway_server())
        for echo in make_echo_run(server.url):
            yield echo, partial(set_clock, echo, clock)


def set_clock(echo: EchoRun, clock: Clock, to: str) -> None:
    """Set the server's clock, and wait until it is."""
    clock.set(to)
    ahead_s = float(to.partition(" ")[0])
    until(lambda: abs(echo.client.time()[0] - time.time() - ahead_s) < HOUR_S / 2)


@pytest.mark.parametrize("jumps", JUMPS.values(), ids=JUMPS)
def test_each_message_is_handled_once_across_jumps(
    clocked: tuple[EchoRun, SetClock], jumps: tuple[str, ...]
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
    if jumps[-1].startswith("-"):  # what the dead replica was given before waits for its time
        set_to("+0")
    for message in sent:
        assert echo.wait_reply(message).array.tolist() == [2 * message.array[0]]
    assert echo.counter("received") == echo.reply_count() == len(sent)
    until(lambda: echo.pending() == 0)
    entries = [each.entry for each in sent]
    assert entries == sorted(entries, key=lambda entry: tuple(map(int, entry.split("-"))))


def test_a_delayed_message_comes_once_by_the_servers_clock(
    clocked: tuple[EchoRun, SetClock],
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


def test_a_join_waits_no_hour_after_the_clock_was_set_back(
    clocked: tuple[EchoRun, SetClock],
) -> None:
    """The IDs of its stream stay an hour ahead, since they never go back; the timer does not."""
    echo, set_to = clocked
    join = JoinRun(echo, JOINED, "joins")
    join.start(head(least=1, wait_s=0.3))
    set_to(f"+{HOUR_S}")
    join.out(join.part("left", batch(0)))
    set_to("+0")
    beat = echo.client.get(next(echo.client.scan_iter(f"{echo.names.alive('head')}*")))
    until(lambda: heartbeat_after(echo, beat))
    join.wait(OUT, FORWARD, join.part("left", batch(1)), timeout_s=30)
    assert join.joined() == [["left"]] * 2
    until(lambda: join.left_over() == {})


def test_a_join_that_waits_ends_once_when_the_clock_jumps(
    clocked: tuple[EchoRun, SetClock],
) -> None:
    """An hour early, by the clock; a part that comes later is answered, and joined no more."""
    echo, set_to = clocked
    join = JoinRun(echo, JOINED, "joins")
    join.start(head(least=1, wait_s=HOUR_S - 60.0), owner("left"))
    root = join.open(batch(0))
    until(lambda: join.memory("head"))
    set_to(f"-{HOUR_S}")
    set_to(f"+{HOUR_S}")
    join.out(root)
    set_to("+0")
    join.start(owner("right"))
    until(lambda: echo.counter("empty", "right"))
    assert join.joined() == [["left"]]
    assert echo.counter("late_parts", "head") == 1
    assert echo.dead_letters() == []
    until(lambda: join.left_over() == {})


def heartbeat_after(echo: EchoRun, before: bytes | None) -> bool:
    """Return whether the replica of `head` has read the clock since."""
    found = next(echo.client.scan_iter(f"{echo.names.alive('head')}*"), None)
    return found is not None and echo.client.get(found) not in (before, None)
