"""Orders on which a replica relies, each seen by what happens to a message in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import structlog

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad.clock import ServerClock
from roomgrad.codec import pack
from roomgrad.commit import Commit
from roomgrad.redis.connection import Connection
from roomgrad.runtime import committer, loop, read_count, redelivery
from roomgrad.runtime.connections import Connections
from tests.integration.conftest import EchoRun
from tests.integration.echo import (
    ECHO,
    FORWARD,
    INPUT,
    OUTPUT,
    REQUESTS,
    echo_component,
    numbers,
    repeat,
)
from tests.waiting import until


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that wait are read together, however busy the machine is."""
    for module in (loop, read_count):
        monkeypatch.setattr(module, "GROUP_S", 60.0)


@pytest.mark.usefixtures("patient")
def test_a_skipped_message_is_acknowledged_behind_a_stale_commit(echo: EchoRun) -> None:
    """The commit that was to acknowledge it was not applied, and the next one does."""
    table = echo.names.table("shared")

    def handle(message: Message, context: Context) -> Message:
        if context.table("shared").get("now") is None:
            echo.client.hset(table, "now", b"{}")
        return message.reply(OUTPUT, message.array)

    component = echo_component(handle, when=lambda message: message.array[0] < 50)
    echo.stop(echo.start(component))
    echo.send(99)
    message = echo.send(1)
    echo.start(component, lease_s=60.0)
    echo.wait_reply(message)
    until(lambda: echo.pending() == 0, timeout_s=10)


def test_the_heartbeat_of_a_stopped_replica_is_deleted(echo: EchoRun) -> None:
    """Its work need not wait until it would expire."""
    replica = echo.start(echo_component(), heartbeat_lives_s=60.0)
    replica.stop()
    alive = echo.names.alive(replica.consumer)
    until(lambda: not echo.client.exists(alive), timeout_s=10)


def test_a_stopped_replica_ends_the_leases_of_what_it_has_not_finished(echo: EchoRun) -> None:
    """A handler that raises leaves its message to the next replica, at once."""

    def handle(message: Message, context: Context) -> Message:
        raise RuntimeError("never")

    first = echo.start(echo_component(handle), lease_s=60.0, heartbeat_lives_s=60.0)
    message = echo.send(1)
    until(lambda: first.status.failing)
    echo.stop(first)
    echo.start(echo_component(), lease_s=60.0)
    assert echo.wait_reply(message, timeout_s=15).array.tolist() == [2.0]


def test_a_message_is_claimed_when_its_lease_is_over(echo: EchoRun) -> None:
    """By the server's clock: another replica may have claimed it since it was found."""
    echo.stop(echo.start(echo_component()))
    claimed = echo.send(1)
    key = echo.names.stream(*REQUESTS.key)
    echo.client.xreadgroup("echo", "another", {key: ">"})
    echo.client.set(echo.names.alive("another"), "{}")
    replica = echo.start(echo_component(), lease_s=60.0)
    replica.status.orphans.append((key.encode(), claimed.entry))
    echo.wait_reply(echo.send(2))
    echo.wait_reply(echo.send(3))
    assert echo.reply_count() == 2


def test_replicas_that_start_together_open_one_root(echo: EchoRun) -> None:
    """Both have found that none was opened."""
    both, opened = threading.Barrier(2, timeout=30), []

    def speak(context: Context) -> None:
        opened.append(1)
        if len(opened) <= 2:
            both.wait()
        context.send(Message.open(OUTPUT, numbers(7)))

    component = echo_component(repeat, on_start=speak)
    threads = [threading.Thread(target=echo.start, args=(component,)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(opened) >= 2
    message = echo.send(1)
    echo.wait_reply(message)
    assert echo.reply_count() == 2  # the first root and the reply


def test_a_handler_that_raised_is_tried_again_within_its_lease(echo: EchoRun) -> None:
    """By the same replica."""
    tried: list[int] = []

    def handle(message: Message, context: Context) -> Message:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("once")
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(handle), lease_s=60.0)
    echo.wait_reply(echo.send(1), timeout_s=15)


def test_a_message_that_waits_for_another_try_is_not_claimed(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease may end before: each claim would count a delivery."""
    monkeypatch.setattr(redelivery, "RETRY_S", (60.0, 60.0))
    tried: list[int] = []

    def handle(message: Message, context: Context) -> Message:
        if message.array[0] < 0:
            tried.append(1)
            if len(tried) == 1:
                raise RuntimeError("once")
        return message.reply(OUTPUT, message.array)

    replica = echo.start(echo_component(handle), lease_s=0.001)
    message = echo.send(-1)
    until(lambda: replica.status.failing)
    key = echo.names.stream(*REQUESTS.key)
    replica.status.orphans.append((key.encode(), message.entry))
    for number in (1, 2):
        echo.wait_reply(echo.send(number))
    assert len(tried) == 1


@pytest.fixture
def connections(echo: EchoRun) -> Iterator[Connections]:
    """Yield the connections of a loop, whose read and commit are not answered yet."""
    found = Connections(lambda _: Connection(echo.url), ServerClock())
    found.connect()
    yield found
    found.close()


def test_a_read_is_forgotten_with_its_connection(connections: Connections) -> None:
    """The next one is sent over the new connection."""
    connections.read([[b"BLPOP", b"none", b"60"]])
    connections.close()
    assert not connections.reading


def test_an_unanswered_commit_is_forgotten_with_its_connection(connections: Connections) -> None:
    """A reply to something else would be taken for the answer to it."""
    connections.send(Commit())
    connections.close()
    connections.connect()
    connections.send(Commit())
    assert connections.call([b"ECHO", b"1"]) == b"1"


def test_the_answer_to_a_commit_is_forgotten_with_its_connection(
    echo: EchoRun, connections: Connections
) -> None:
    """It would be taken for the answer to the next one."""
    connections.send(Commit())
    connections.call([b"PING"])
    connections.close()
    connections.connect()
    refused = Commit()
    refused.same(echo.names.table("none"), b"now", b"1")
    connections.send(refused)
    assert connections.answer()[0] == b"stale"


def test_what_a_commit_was_to_write_is_not_read_if_it_was_not_applied(echo: EchoRun) -> None:
    """The handler runs again on what is stored."""
    seen: list[int] = []

    def handle(message: Message, context: Context) -> Message:
        seen.append((context.memory.get("shared") or {"n": 0})["n"])
        if len(seen) == 1:  # another program writes before the commit
            record = pack({"ROOT_ID": "another", "n": 10})
            echo.client.hset(echo.names.memory("echo"), "shared", record)
        context.memory.put("shared", n=seen[-1] + 1)
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(handle))
    echo.send(1)
    until(lambda: len(seen) > 1, timeout_s=10)
    assert seen[1] == 10


def test_a_script_that_is_flushed_under_a_handler_is_loaded_again(own_echo: EchoRun) -> None:
    """No other program loads it meanwhile."""

    def handle(message: Message, context: Context) -> Message:
        own_echo.client.script_flush()
        return message.reply(OUTPUT, message.array)

    own_echo.start(echo_component(handle))
    own_echo.wait_reply(own_echo.send(1), timeout_s=15)


def test_a_handler_runs_once_while_its_commit_is_refused(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has computed is committed when that is possible."""
    monkeypatch.setattr(committer, "REFUSED_PAUSE_S", 0.05)
    handled: list[int] = []

    def handle(message: Message, context: Context) -> Message:
        handled.append(1)
        return repeat(message, context)

    echo.client.hset(echo.names.counters("echo"), "received", "many")
    echo.start(echo_component(handle))
    message = echo.send(1)
    with structlog.testing.capture_logs() as lines:
        until(lambda: len([each for each in lines if "refuses" in each["event"]]) > 3)
    assert len(handled) == 1
    echo.client.hset(echo.names.counters("echo"), "received", "1")
    echo.wait_reply(message)
    assert len(handled) == 1


def test_a_commit_that_is_wrong_is_a_dead_letter(echo: EchoRun) -> None:
    """No server would ever apply it."""

    def handle(message: Message, context: Context) -> None:
        context.counters.add("received", 10**15)

    echo.start(echo_component(handle))
    echo.send(1)
    [letter] = until(echo.dead_letters, timeout_s=10)
    assert b"cannot be committed: counter received cannot grow by" in letter[b"history"]


def test_a_watcher_begins_again_on_an_emptied_server(own_echo: EchoRun) -> None:
    """It has no group whose loss would tell."""
    watcher = Component(
        "watcher", ECHO, RuntimeSettings, [on(INPUT, FORWARD)(lambda *_: None)], everyone=True
    )
    own_echo.start(watcher)
    own_echo.client.flushall()
    info = own_echo.names.run_info()
    until(lambda: own_echo.client.hexists(info, "token"), timeout_s=15)


def test_what_a_lost_connection_had_received_is_found_within_its_lease(own_echo: EchoRun) -> None:
    """The replica asks for what is its own."""
    entered, left = threading.Event(), threading.Event()

    def handle(message: Message, context: Context) -> Message:
        if not entered.is_set():
            entered.set()
            assert left.wait(30)
        return message.reply(OUTPUT, message.array)

    replica = own_echo.start(echo_component(handle), lease_s=60.0)
    own_echo.send(1)
    assert entered.wait(30)
    lost = own_echo.send(2)
    key = own_echo.names.stream(*REQUESTS.key)
    own_echo.client.xreadgroup("echo", replica.consumer, {key: ">"})
    own_echo.client.client_kill_filter(_type="normal", skipme=True)
    left.set()
    own_echo.wait_reply(lost, timeout_s=15)


def test_replicas_have_time_for_a_heartbeat_before_they_count_as_dead(echo: EchoRun) -> None:
    """After an outage no heartbeat is stored, and leases are over."""
    echo.stop(echo.start(echo_component()))
    echo.send(1)
    key = echo.names.stream(*REQUESTS.key)
    echo.client.xreadgroup("echo", "another", {key: ">"})
    until(
        lambda: (
            echo.client.xpending_range(key, "echo", "-", "+", 1)[0]["time_since_delivered"] > 300
        )
    )
    echo.start(echo_component(), heartbeat_lives_s=60.0)
    time.sleep(0.5)  # some heartbeats
    echo.wait_reply(echo.send(2))
    assert echo.reply_count() == 1
