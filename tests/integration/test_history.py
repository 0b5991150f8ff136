"""History is kept within limits, and nothing that is owed is ever trimmed."""

from __future__ import annotations

from typing import Any

import pytest

from roomgrad import scripts
from roomgrad.runtime import runs
from roomgrad.runtime.dead_letters import ERRORS_KEPT
from tests.integration.conftest import EchoRun
from tests.integration.echo import ECHO, REPLIES, REQUESTS, echo_component, numbers
from tests.waiting import until


def fill(echo: EchoRun, count: int, values: int = 1) -> None:
    """So many messages in the input room, without a round trip for each."""
    body = b'{"ID":"i%d","ROOT_ID":"r%d","TYPE":"DATA/FORWARD","DATA":%s}'
    with echo.client.pipeline(transaction=False) as pipe:
        for number in range(count):
            data = b'{"$array":{"field":"DATA","dtype":"<f4","shape":[%d]}}' % values
            fields = {"ID": f"i{number}", "m": body % (number, number, data)}
            fields["DATA"] = numbers(*[number] * values).tobytes()
            pipe.xadd(echo.names.stream(*REQUESTS.key), fields)  # type: ignore[arg-type]
        pipe.execute()


def length(echo: EchoRun, stream: Any = REQUESTS) -> int:
    return int(echo.client.xlen(echo.names.stream(*stream.key)))


def test_acknowledged_messages_are_trimmed_to_the_limit(echo: EchoRun) -> None:
    """As many as HISTORY_ENTRIES are kept, and with the others go the marks of what was done."""
    echo.start(echo_component(), history_entries=10)
    fill(echo, 100)
    until(lambda: echo.reply_count() == 100)
    until(lambda: length(echo) <= 12)
    assert length(echo) >= 10
    marks = echo.names.done("echo", *REQUESTS.key)
    left = {entry for entry, _ in echo.client.xrange(echo.names.stream(*REQUESTS.key))}
    done = set(echo.client.zrange(marks, 0, -1))
    assert left <= done
    # Marks go by the millisecond: those of the oldest one that is kept may all be there.
    oldest = min(int(entry.split(b"-")[0]) for entry in left)
    assert all(int(entry.split(b"-")[0]) >= oldest for entry in done)


def test_history_is_bounded_in_bytes_too(echo: EchoRun) -> None:
    """Large messages are kept in smaller numbers."""
    echo.start(echo_component(), history_entries=1000, history_mib=1)
    fill(echo, 40, values=25_000)  # 100 kB each
    until(lambda: echo.reply_count() == 40)
    key = echo.names.stream(*REQUESTS.key)
    until(lambda: echo.client.memory_usage(key, samples=0) < 1.5 * 2**20)
    assert length(echo) >= 5


def test_large_messages_are_trimmed_at_the_next_heartbeat(echo: EchoRun) -> None:
    """Ten heartbeats of them would be gigabytes."""
    echo.start(echo_component(), history_mib=1, heartbeat_interval_s=2.0, heartbeat_lives_s=6.0)
    fill(echo, 40, values=25_000)  # 100 kB each
    until(lambda: echo.reply_count() == 40)
    until(lambda: length(echo) < 20)  # four beats


def test_what_a_group_has_not_acknowledged_is_never_trimmed(echo: EchoRun) -> None:
    """The listener is not there: every word of the echo component waits for it."""
    echo.start(echo_component(), history_entries=5)
    fill(echo, 50)
    until(lambda: echo.reply_count() == 50)
    until(lambda: length(echo) <= 7)
    assert length(echo, REPLIES) == 50


def test_what_is_pending_is_never_trimmed(echo: EchoRun) -> None:
    """One message is tried again and again: it, and what came after it, stays."""

    def moody(message: Any, context: Any) -> Any:
        if message.array[0] == 20:
            raise RuntimeError("not this one")
        return message.reply("output", message.array)

    echo.start(echo_component(moody), history_entries=5, max_deliveries=1000)
    fill(echo, 50)
    until(lambda: echo.reply_count() == 49)
    until(lambda: length(echo) == 30)
    assert echo.pending() == 1


def test_a_destroyed_group_stops_trimming(echo: EchoRun) -> None:
    """It owes everything that it has not done, until it is created again."""
    script = echo.client.register_script(scripts.load("trim"))
    echo.start(echo_component()).stop()
    fill(echo, 20)
    key = echo.names.stream(*REQUESTS.key)
    echo.client.xgroup_destroy(key, "echo")
    marks = echo.names.done("echo", *REQUESTS.key)
    assert script(keys=[key, echo.names.run_info(), marks], args=[5, 2**30, "echo"]) == 0
    assert length(echo) == 20


def test_a_forgotten_component_holds_no_history_back(echo: EchoRun) -> None:
    """`forget` removes its groups for good; history need not wait for it any more."""
    echo.start(echo_component(), history_entries=5)
    fill(echo, 30)
    until(lambda: echo.reply_count() == 30)
    assert runs.forget(echo.client, ECHO, echo.names, "listener") > 0
    groups = echo.client.xinfo_groups(echo.names.stream(*REPLIES.key))
    assert groups == []
    fill(echo, 1)  # with work comes trimming
    until(lambda: length(echo, REPLIES) <= 6)  # also in replicas that started before
    assert runs.create_groups(echo.client, ECHO, echo.names) == 0  # and stay away


def test_reports_are_bounded(echo: EchoRun) -> None:
    """Rooms without groups are trimmed by size."""

    def noisy(message: Any, context: Any) -> None:
        context.report(NUMBER=1)

    echo.start(echo_component(noisy))
    fill(echo, 10)
    until(lambda: echo.client.xlen(echo.names.stream("_logging", "LOG/KPI")) == 10)


@pytest.mark.slow
def test_errors_are_bounded(echo: EchoRun) -> None:
    """A flood of rubbish leaves about a thousand errors, and all the dead letters."""
    echo.start(echo_component())
    with echo.client.pipeline(transaction=False) as pipe:
        for _ in range(ERRORS_KEPT + 500):
            pipe.xadd(echo.names.stream(*REQUESTS.key), {"m": "rubbish"})
        pipe.execute()
    until(lambda: echo.client.xlen(echo.names.dead()) == ERRORS_KEPT + 500)
    assert echo.client.xlen(echo.names.stream("errors", "LOG/ERROR")) < ERRORS_KEPT + 200
