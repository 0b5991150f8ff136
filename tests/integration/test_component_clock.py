"""A component whose clock jumps by an hour, or is fast, while that of its server is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from roomgrad import Message
from roomgrad.clock import server_time
from roomgrad.redis import heartbeats
from tests.integration.clocks import HOUR_S, JUMPS, NEEDS_LIBRARY, Clock
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import REQUESTS, echo_component
from tests.integration.graphs.branch import batch
from tests.integration.graphs.join_run import JoinRun
from tests.integration.graphs.joins import JOINED
from tests.waiting import until

MESSAGES = 10
LEASES_S = 1.5  # five leases
LIVES_S = 3.0  # on a busy machine it is not the clock that delays a heartbeat
AHEAD = [f"+{HOUR_S}", f"-{HOUR_S}", "+0 x1.01"]

pytestmark = NEEDS_LIBRARY


@pytest.fixture
def echo(embedded_url: str) -> Iterator[EchoRun]:
    yield from make_echo_run(embedded_url)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def sent_ms(message: Message) -> int:
    """Return when the server stored a message."""
    return int(message.entry.partition("-")[0])


@pytest.mark.parametrize("jumps", [*JUMPS, "fast, monotonic, too"])
def test_each_message_is_handled_once_across_jumps(echo: EchoRun, clock: Clock, jumps: str) -> None:
    """One replica has the clock, and dies; its messages go to one whose clock is right."""
    jumps, _, monotonic = jumps.partition(", ")
    with clock.around(monotonic=bool(monotonic)):
        process = echo.spawn("ahead")
    sent = []

    def ahead_s() -> float:
        sent.append(echo.send(0))
        return float(echo.wait_reply(sent[-1]).array[0])

    for jump in JUMPS[jumps]:
        clock.set(jump)
        expected = float(jump.partition(" ")[0])
        until(lambda expected=expected: abs(ahead_s() - expected) < HOUR_S / 2)
        (beat,) = until(lambda: heartbeats.find(echo.client, echo.names, "echo"))
        assert abs(beat.turn - server_time(echo.client)) < HOUR_S / 2
        assert abs(beat.started - server_time(echo.client)) < HOUR_S / 2
    echo.start(echo_component())
    sent += [echo.send(number) for number in range(MESSAGES)]
    process.kill()
    sent += [echo.send(number) for number in range(MESSAGES)]
    for message in sent:
        echo.wait_reply(message)
    until(lambda: echo.pending() == 0)
    assert echo.counter("received") == echo.reply_count() == len(sent)
    assert echo.dead_letters() == []


@pytest.mark.parametrize("ahead", AHEAD)
def test_the_work_of_the_living_is_not_redelivered_and_that_of_the_dead_is(
    echo: EchoRun, clock: Clock, ahead: str
) -> None:
    """For five leases, whatever the clock of the replica that works shows; then it is killed."""
    with clock.around():
        process = echo.spawn("hang", heartbeat_lives_s=LIVES_S)
    until(lambda: heartbeats.find(echo.client, echo.names, "echo"))
    held = echo.send(-1)
    until(lambda: echo.pending() == 1)
    echo.start(echo_component(), heartbeat_lives_s=LIVES_S)
    for to in (ahead, "+0", ahead):
        clock.set(to)
        waited_s = idle_s(echo)
        until(lambda waited_s=waited_s: idle_s(echo) > waited_s + LEASES_S, every_s=0.05)
    assert (echo.counter("received"), echo.pending()) == (0, 1)
    process.kill()
    assert echo.wait_reply(held).array.tolist() == [-2]
    assert echo.counter("received") == echo.reply_count() == 1


def idle_s(echo: EchoRun) -> float:
    """Return how long ago the only message that is pending was delivered."""
    stream = echo.names.stream(*REQUESTS.key)
    (found,) = echo.client.xpending_range(stream, "echo", "-", "+", 1)
    return float(found["time_since_delivered"]) / 1000


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_delayed_message_comes_by_the_servers_clock(
    echo: EchoRun, clock: Clock, ahead: str
) -> None:
    """Not an hour early or late, also if the clock jumps while it waits."""
    clock.set(ahead)
    with clock.around():
        echo.spawn("later")
    for to in (ahead, "+0"):
        delayed = echo.send(2)
        until(lambda: echo.client.zcard(echo.names.later("echo")))
        clock.set(to)
        reply = echo.wait_reply(delayed)
        assert sent_ms(reply) - sent_ms(delayed) >= 2000
        clock.set(ahead)
    assert echo.reply_count() == 2


@pytest.mark.parametrize("ahead", AHEAD)
def test_a_join_waits_by_the_servers_clock(echo: EchoRun, clock: Clock, ahead: str) -> None:
    """For the time that it is to wait, and not an hour more or less."""
    join = JoinRun(echo, JOINED, "joins")
    clock.set(ahead)
    with clock.around():
        join.spawn("late head")
    for number in range(3):
        part = join.part("left", batch(number))
        output = join.out(part)
        assert sent_ms(output) - sent_ms(part) >= 250  # of 500, by what it knows of the clock
        clock.set("+0" if number else ahead)
    assert join.joined() == [["left"]] * 3
    assert echo.dead_letters() == []
    until(lambda: join.left_over() == {})
