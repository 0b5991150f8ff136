"""A server whose memory is full: what goes on, what waits, and how it recovers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from roomgrad import Context, Message
from roomgrad.errors import ServerError
from roomgrad.redis.client import Client
from roomgrad.runtime import health, runs
from roomgrad.runtime.status import FREE_BEATS, Status
from tests.integration.conftest import QUICK, EchoRun
from tests.integration.echo import (
    ECHO,
    INPUT,
    REQUESTS,
    echo_component,
    later,
    repeat,
)
from tests.waiting import until

LIVES_S = float(QUICK["heartbeat_lives_s"])


@pytest.fixture
def full(own_echo: EchoRun) -> Iterator[EchoRun]:
    """Yield a run; `fill` and `free` decide whether its server's memory is full."""
    own_echo.client.config_set("maxmemory-policy", "noeviction")
    yield own_echo
    free(own_echo)


def fill(run: EchoRun) -> None:
    """Let the server's limit lie below what it uses, as if another tenant had filled it."""
    run.client.config_set("maxmemory", "1mb")
    with pytest.raises(ServerError, match=r"memory is full: [\d,]+ of 1,048,576 bytes.*maxmemory"):
        run.send(0)


def free(run: EchoRun) -> None:
    run.client.config_set("maxmemory", "0")


def used(run: EchoRun) -> int:
    return int(run.client.info("memory")["used_memory"])


def open_another(message: Message, context: Context) -> Message | None:
    """Open a root with the opposite of a negative number; reply to others."""
    if message.array[0] < 0:
        context.counters.add("opened")
        return Message.open(INPUT, -message.array)
    return repeat(message, context)


def test_a_component_starts_and_finishes_what_is_open(full: EchoRun) -> None:
    """It is known to the run, so that it needs no memory. Its history is trimmed as ever."""
    full.stop(full.start(echo_component(), history_entries=5))
    messages = [full.send(number) for number in range(60)]
    fill(full)
    before = used(full)
    replica = full.start(echo_component(), history_entries=5)
    assert full.wait_reply(messages[-1]).array.tolist() == [118.0]
    key = full.names.stream(*REQUESTS.key)
    until(lambda: full.client.xlen(key) <= 7)
    assert full.reply_count() == full.counter("received") == 60
    time.sleep(3 * LIVES_S)  # heartbeats that stopped would have expired
    assert full.client.exists(full.names.alive(replica.consumer))
    assert used(full) < before + 2**20


def test_new_roots_wait_and_hold_up_nothing(full: EchoRun) -> None:
    """What opens a root is tried every heartbeat, counts no delivery, and is done once."""
    full.stop(full.start(echo_component(open_another)))
    opening = [full.send(-number) for number in (1, 2, 5, 6, 7, 8)]
    answered = [full.send(number) for number in (3, 4)]
    fill(full)
    replica = full.start(echo_component(open_another), max_deliveries=2)
    for message in answered:
        full.wait_reply(message)
    until(lambda: replica.status.memory_full)
    time.sleep(10 * float(QUICK["heartbeat_interval_s"]))
    pending = full.client.xpending_range(full.names.stream(*REQUESTS.key), "echo", "-", "+", 10)
    assert [entry["message_id"].decode() for entry in pending] == [each.entry for each in opening]
    assert {entry["times_delivered"] for entry in pending} == {1}
    assert (full.counter("opened"), full.reply_count()) == (0, 2)
    free(full)
    until(lambda: full.reply_count() == 8)
    assert (full.counter("opened"), full.counter("received")) == (6, 8)
    assert full.dead_letters() == []
    until(lambda: not replica.status.memory_full)


def test_delayed_messages_and_skipped_ones_go_on(full: EchoRun) -> None:
    """A delayed message was sent before; a skipped one only has to be acknowledged."""
    skip = echo_component(later, when=lambda message: message.array[0] < 50)
    full.start(skip)
    delayed = full.send(3.0)
    until(lambda: full.counter("received") == 1)
    skipped = full.send(99)
    full.stop(full.start(skip))
    fill(full)
    assert full.wait_reply(delayed).array.tolist() == [3.0]
    until(lambda: full.pending() == 0)
    marks = full.names.done("echo", *REQUESTS.key)
    until(lambda: full.client.zscore(marks, skipped.entry) is not None)


def test_a_component_is_forgotten(full: EchoRun) -> None:
    """`forget` frees what is kept for a component: it needs no memory first."""
    full.stop(full.start(echo_component()))
    fill(full)
    assert runs.forget(full.client, ECHO, full.names, "listener") > 0
    assert runs.forgotten(full.client, full.names) == {"listener"}


def test_a_destroyed_group_is_created_again(full: EchoRun) -> None:
    """Its messages were sent before memory was full."""
    full.stop(full.start(echo_component()))
    message = full.send(1)
    full.client.xgroup_destroy(full.names.stream(*REQUESTS.key), "echo")
    fill(full)
    full.start(echo_component())
    assert full.wait_reply(message).array.tolist() == [2.0]


def test_health_names_the_reason(full: EchoRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The component is healthy: to start it again would help nothing."""
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    full.start(echo_component())
    fill(full)
    until(lambda: "memory is full" in health.check("echo", full.names.run, full.url))


def test_a_commit_of_a_client_that_only_deletes_is_applied(full: EchoRun) -> None:
    with Client(ECHO, full.names.run, full.url) as client:
        client.commit(lambda context: context.memory.put("x", a=1))
        fill(full)
        client.commit(lambda context: context.memory.delete("x"))
        assert client.commit(lambda context: context.memory.get("x")) is None
        with pytest.raises(ServerError, match="memory is full"):
            client.commit(lambda context: context.memory.put("x", a=1))


def test_memory_at_its_limit_is_logged_once() -> None:
    """Full at one heartbeat and not at the next: it counts as free only after some."""
    status = Status()
    for _ in range(3):
        status.note_memory(full=True)
        status.note_memory(full=False)
        assert status.memory_full
    for _ in range(FREE_BEATS - 1):
        status.note_memory(full=False)
    assert not status.memory_full
