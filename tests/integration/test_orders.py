"""Orders on which a replica relies, each seen by what happens to a message in between."""

from __future__ import annotations

import threading
import time

import pytest

from roomgrad import Context, Message
from roomgrad.runtime import loop, read_count, redelivery
from tests.integration.conftest import EchoRun
from tests.integration.echo import OUTPUT, REQUESTS, echo_component, numbers, repeat
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
    echo.start(component)
    echo.wait_reply(message)
    until(lambda: echo.pending() == 0, timeout_s=10)


def test_a_message_that_waits_for_another_try_is_left_alone(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is over before: the replica itself would claim it with each heartbeat."""
    monkeypatch.setattr(redelivery, "RETRY_S", (1.5, 1.5))
    tried: list[float] = []

    def handle(message: Message, context: Context) -> Message:
        tried.append(time.monotonic())
        if len(tried) == 1:
            raise RuntimeError("once")
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(handle))
    echo.wait_reply(echo.send(1))
    assert tried[1] - tried[0] >= 1.5


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
