"""`everyone` mode: each replica sees each message, and nobody waits for it."""

from __future__ import annotations

import structlog

from roomgrad import Array, Component, Context, Message, Room, RuntimeSettings, Stream, System, on
from roomgrad.redis.client import Client
from roomgrad.runtime.dead_letters import ERROR_STREAM
from roomgrad.testing import wait_for
from tests.integration.conftest import EchoRun
from tests.integration.echo import (
    ECHO,
    FORWARD,
    INPUT,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    numbers,
)
from tests.waiting import until


class Watcher:
    """A component that sees everything that is said in the input room."""

    def __init__(self, system: System = ECHO, room: Room = INPUT) -> None:
        self.seen: list[float] = []
        self.missed: list[int] = []
        handler = on(room, FORWARD)(self.look)
        self.component = Component("watcher", system, RuntimeSettings, [handler], everyone=True)

    def look(self, message: Message, context: Context) -> None:
        self.seen.append(float(message.array[0]))
        self.missed.append(context.missed)
        context.counters.add("seen")


def test_each_replica_sees_each_message(echo: EchoRun) -> None:
    """Two watchers see what the echo component hears; the echo component hears it once."""
    watchers = [Watcher(), Watcher()]
    for watcher in watchers:
        echo.start(watcher.component)
    echo.start(echo_component())
    for number in range(5):
        echo.wait_reply(echo.send(number))
    for watcher in watchers:
        until(lambda watcher=watcher: len(watcher.seen) == 5)
        assert watcher.seen == [0, 1, 2, 3, 4]
    until(lambda: echo.counter("seen", "watcher") == 10)
    groups = echo.client.xinfo_groups(echo.names.stream(*REQUESTS.key))
    assert [group["name"] for group in groups] == [b"echo"]


def test_an_unnamed_replica_sees_what_comes_from_now_on(echo: EchoRun) -> None:
    """What was there before it came is not its concern."""
    echo.start(echo_component())
    echo.wait_reply(echo.send(1))
    watcher = Watcher()
    echo.start(watcher.component)
    echo.wait_reply(echo.send(2))
    until(lambda: watcher.seen)
    assert watcher.seen == [2.0]
    assert not echo.client.exists(echo.names.position("watcher", ""))


def test_a_named_replica_goes_on_where_it_stopped(echo: EchoRun) -> None:
    """From its last commit, without a gap and without seeing anything twice."""
    echo.start(echo_component())
    for first in range(0, 9, 3):
        watcher = Watcher()
        replica = echo.start(watcher.component, replica="ann")
        echo.wait_reply(echo.send(first))
        until(lambda watcher=watcher, first=first: watcher.seen[-1:] == [first])
        replica.stop()
        until(lambda replica=replica: not alive(echo, replica.consumer))
        for number in (first + 1, first + 2):
            echo.wait_reply(echo.send(number))
        expected = [first] if first == 0 else [first - 2, first - 1, first]
        assert watcher.seen == expected
        assert set(watcher.missed) == {0}


def alive(echo: EchoRun, consumer: str) -> bool:
    return bool(echo.client.exists(echo.names.alive(consumer)))


def test_a_named_replica_that_saw_nothing_yet_misses_nothing(echo: EchoRun) -> None:
    """It begins where it first came, not where it comes again."""
    echo.start(echo_component())
    replica = echo.start(Watcher().component, replica="ann")
    replica.stop()
    until(lambda: not alive(echo, replica.consumer))
    echo.wait_reply(echo.send(1))
    watcher = Watcher()
    echo.start(watcher.component, replica="ann")
    until(lambda: watcher.seen == [1.0])


def test_a_named_replica_is_told_how_much_it_missed(echo: EchoRun) -> None:
    """It does not delay trimming; what was trimmed while it was away is counted."""
    key = echo.names.stream(*REQUESTS.key)
    trimming = {"history_entries": 4}
    trims = echo.start(echo_component(), **trimming)
    first = Watcher()
    replica = echo.start(first.component, replica="ann")
    echo.wait_reply(echo.send(0))
    until(lambda: first.seen == [0.0])
    echo.stop(replica)
    for number in range(1, 21):
        echo.wait_reply(echo.send(number))
    until(lambda: echo.client.xlen(key) <= 6)
    echo.stop(trims)
    left = [entry for entry, _ in echo.client.xrange(key)]
    second = Watcher()
    with structlog.testing.capture_logs() as lines:
        echo.start(second.component, replica="ann")
        echo.send(21)
        until(lambda: second.seen[-1:] == [21.0])
    count = 20 - len(left)
    assert second.missed[0] == count > 0
    assert sum(second.missed) == count
    assert second.seen == [float(n) for n in range(21 - len(left), 22)]
    assert any(line.get("count") == count for line in lines)


def test_two_replicas_of_one_name_share_its_position(echo: EchoRun) -> None:
    """Each message has its effect once, and the one who comes second does not spin."""
    watchers = [Watcher(), Watcher()]
    for watcher in watchers:
        echo.start(watcher.component, replica="ann")
    echo.start(echo_component())
    for number in range(10):
        echo.wait_reply(echo.send(number))
    until(lambda: echo.counter("seen", "watcher") == 10)
    echo.wait_reply(echo.send(10))
    until(lambda: echo.counter("seen", "watcher") == 11)
    assert all(len(watcher.seen) < 60 for watcher in watchers)


def test_what_a_watcher_cannot_take_harms_nobody(echo: EchoRun) -> None:
    """Its handler raises: a dead letter says so, the root goes on, and so does the watcher."""
    seen: list[float] = []

    def look(message: Message, context: Context) -> None:
        if message.array[0] < 0:
            raise ValueError("too dark")
        seen.append(float(message.array[0]))

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, waits=True)
        return message.reply(OUTPUT, message.array)

    watcher = Component("watcher", ECHO, RuntimeSettings, [on(INPUT, FORWARD)(look)], everyone=True)
    echo.start(watcher)
    echo.start(echo_component(keep))
    echo.wait_reply(echo.send(-1))
    assert "too dark" in wait_for(echo.client, echo.names, ERROR_STREAM).fields["TEXT"]
    echo.add({"m": "rubbish", "ROOT_ID": "r"})
    echo.wait_reply(echo.send(1))
    until(lambda: seen == [1.0])
    until(
        lambda: len(echo.dead_letters()) == 3
    )  # the watcher's two, and the echo component's rubbish
    notices = echo.client.xrange(echo.names.stream("@echo", "LOG/ERROR"))
    assert [fields[b"ROOT_ID"] for _, fields in notices] == [b"r"]
    assert echo.client.hlen(echo.names.memory("echo")) == 2


def test_a_stream_without_consumers_can_be_watched(echo: EchoRun) -> None:
    """Nobody has a group there, and the stream may not exist yet."""
    attic = Room("attic")
    stream = Stream(attic, FORWARD, {"DATA": Array("<f4", ("n",))})
    system = System("attics", (stream,), ("ghost",))
    watcher = Watcher(system, attic)
    echo.start(watcher.component, replica="ann")
    with Client(system, echo.names.run, echo.url) as client:
        client.send(Message.open(attic, numbers(1)))
    until(lambda: watcher.seen == [1.0])


def test_a_watcher_that_lost_its_connection_sees_what_came_meanwhile(echo: EchoRun) -> None:
    """A broken connection is no reason to miss anything, for a named replica."""
    watcher = Watcher()
    replica = echo.start(watcher.component, replica="ann")
    echo.start(echo_component())
    for number in range(5):
        message = echo.send(number)
        for client in echo.client.client_list():
            if client["name"].startswith(replica.consumer):
                echo.client.client_kill_filter(_id=client["id"])
        echo.wait_reply(message)
    until(lambda: watcher.seen[-1:] == [4.0])
    until(lambda: echo.counter("seen", "watcher") == 5)
    assert echo.client.xlen(echo.names.stream(*REPLIES.key)) == 5
