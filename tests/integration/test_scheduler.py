"""Messages that are staged for later: when they come, and that each comes once."""

from __future__ import annotations

import signal
import time
from typing import Any

import orjson
import pytest
import redis
import structlog

from roomgrad import Component, Context, Message, RuntimeSettings, on
from roomgrad.errors import ContractError
from roomgrad.redis.client import Client
from roomgrad.runtime.housekeeping import Housekeeping
from roomgrad.runtime.replica import Replica
from roomgrad.runtime.scheduler import Scheduler
from tests.integration.conftest import EchoRun, OwnServer
from tests.integration.echo import (
    ECHO,
    FORWARD,
    INPUT,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    later,
    listener,
    numbers,
)
from tests.integration.test_process import count_commands
from tests.waiting import until

SOON_MS = 250  # on a busy machine; some 5 ms on a free one
SELDOM = {"heartbeat_interval_s": 30.0, "heartbeat_lives_s": 60.0}


def waiting(echo: EchoRun, component: str = "echo") -> int:
    """How many messages are staged for later."""
    return int(echo.client.zcard(echo.names.later(component)))


def due(echo: EchoRun, component: str = "echo") -> list[int]:
    """When they are due, in unix ms of the server."""
    found = echo.client.zrange(echo.names.later(component), 0, -1, withscores=True)
    return [int(score) for _, score in found]


def when(message: Message) -> int:
    """When a message came into its stream."""
    return int(message.entry.split("-")[0])


def said(echo: EchoRun) -> list[float]:
    """The first numbers of what the echo component has said, in its order."""
    entries = echo.client.xrange(echo.names.stream(*REPLIES.key))
    return [orjson.loads(fields[b"m"])["DATA"][0] for _, fields in entries]


def nothing_left(echo: EchoRun) -> bool:
    """Neither a time nor a body."""
    bodies = echo.client.hkeys(echo.names.later_bodies("echo"))
    return waiting(echo) == 0 and bodies == [b"count"]


# when it comes


def test_it_comes_when_it_is_due(echo: EchoRun) -> None:
    """Not before, and soon after: with heartbeats half a minute apart, the commit tells."""
    echo.start(echo_component(later), **SELDOM)
    for seconds in (0.3, 0.1, 0.5):
        message = echo.send(seconds)
        [at] = until(lambda: due(echo))
        assert at >= when(message) + seconds * 1000
        reply = echo.wait_reply(message)
        assert reply.array.tolist() == message.array.tolist()
        assert at <= when(reply) <= at + SOON_MS
    assert nothing_left(echo)


def test_the_earlier_one_comes_first(echo: EchoRun) -> None:
    """Whatever was staged first; and of one time, what was staged first."""

    def countdown(message: Message, context: Context) -> None:
        for number in (3, 2, 1):
            context.send(message.reply(OUTPUT, numbers(number, 0)), after_s=number / 10)
            context.send(message.reply(OUTPUT, numbers(number, 1)), after_s=number / 10)
        context.send(message.reply(OUTPUT, numbers(0)))

    echo.start(echo_component(countdown), **SELDOM)
    echo.send(1)
    until(lambda: echo.reply_count() == 7)
    entries = echo.client.xrange(echo.names.stream(*REPLIES.key))
    told = [orjson.loads(fields[b"m"])["DATA"] for _, fields in entries]
    assert told == [[0], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]]


def test_it_looks_like_any_other_message(echo: EchoRun) -> None:
    """Its fields, and the header that rings with its entry; large arrays as raw bytes."""

    def twice(message: Message, context: Context) -> Message:
        reply = message.reply(OUTPUT, message.array)
        context.send(reply, after_s=0.05)
        return reply

    with echo.client.pubsub() as ears:
        ears.subscribe(echo.names.channel("output"))
        until(lambda: ears.get_message(timeout=1))
        echo.start(echo_component(twice), **SELDOM)
        echo.send(*range(1000))
        rings = [orjson.loads(next_ring(ears)) for _ in range(2)]
    (at_once, fields), (late, late_fields) = echo.client.xrange(echo.names.stream(*REPLIES.key))
    assert fields == late_fields
    assert len(fields[b"DATA"]) == 4000
    assert [ring.pop("entry").encode() for ring in rings] == [at_once, late]
    assert rings[0] == rings[1]


def next_ring(ears: redis.client.PubSub) -> bytes:
    found = until(lambda: ears.get_message(ignore_subscribe_messages=True, timeout=1))
    return bytes(found["data"])


def test_many_at_once_all_come(echo: EchoRun) -> None:
    """More than one call of the script delivers; two with one ID are two."""

    def burst(message: Message, context: Context) -> None:
        for number in range(250):
            context.send(message.reply(OUTPUT, numbers(number), id="same"), after_s=0.2)

    echo.start(echo_component(burst), **SELDOM)
    echo.send(1)
    until(lambda: echo.reply_count() == 250)
    assert said(echo) == list(range(250))
    assert nothing_left(echo)


def test_the_loop_goes_on_meanwhile(echo: EchoRun) -> None:
    """A handler that is busy delays no delivery, and what waits delays no handler."""

    def busy(message: Message, context: Context) -> Message | None:
        if message.array[0]:
            return later(message, context)
        until(lambda: echo.reply_count() == 1)  # inside a handler, until the delayed one is there
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(busy), **SELDOM)
    delayed, second = echo.send(0.3), echo.send(0)
    assert when(echo.wait_reply(delayed)) <= when(echo.wait_reply(second))


def test_one_that_is_on_everyones_side_sends_later_too(echo: EchoRun) -> None:
    """A component without a group; each of its two replicas stages its own."""
    handler = on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])(later)
    watcher = Component("watcher", ECHO, RuntimeSettings, [handler], everyone=True)
    for _ in range(2):
        echo.start(watcher, **SELDOM)
    echo.send(1.0)
    until(lambda: len(due(echo, "watcher")) == 2)
    until(lambda: echo.reply_count() == 2)
    assert waiting(echo, "watcher") == 0


def test_the_first_word_may_come_later(echo: EchoRun) -> None:
    """What `on_start` stages, once a run."""

    def speak(context: Context) -> None:
        context.send(Message.open(OUTPUT, numbers(7)), after_s=0.2)

    for _ in range(2):
        echo.start(echo_component(on_start=speak))
    until(lambda: echo.reply_count())
    assert said(echo) == [7.0]


def test_the_first_word_of_the_next_run_comes_in_time(own_echo: EchoRun) -> None:
    """The server was emptied: housekeeping, whose next turn is far, is told."""

    def speak(context: Context) -> None:
        context.send(Message.open(OUTPUT, numbers(7)), after_s=0.2)

    own_echo.start(echo_component(on_start=speak), **SELDOM)
    for _ in range(2):
        until(lambda: own_echo.client.exists(own_echo.names.stream(*REPLIES.key)))
        until(lambda: own_echo.reply_count() == 1)
        own_echo.client.flushall()


# once


def test_replicas_deliver_each_once(echo: EchoRun) -> None:
    """Three of them, all told by their heartbeats; with a listener that counts."""
    heard: list[float] = []

    def note(message: Message, context: Context) -> None:
        heard.append(float(message.array[1]))
        context.counters.add("received")

    for _ in range(3):
        echo.start(echo_component(later))
    echo.start(listener(note))
    for number in range(30):
        echo.send(0.5, number)
    until(lambda: echo.counter("received", "listener") == 30)
    until(lambda: nothing_left(echo))
    assert sorted(heard) == list(range(30))
    assert echo.reply_count() == echo.counter("received") == 30


@pytest.mark.parametrize("other", ["beside it", "after it"])
def test_the_death_of_who_staged_it_changes_nothing(echo: EchoRun, other: str) -> None:
    """kill -9 before it is due: another replica delivers, at its time, or the next to start."""
    victim = echo.spawn("later", **SELDOM)
    message = echo.send(1.5)
    [at] = until(lambda: due(echo))
    if other == "beside it":
        echo.start(echo_component(later))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    if other == "after it":
        until(lambda: server_ms(echo) > at)
        assert echo.reply_count() == 0
        echo.start(echo_component(later))
    reply = echo.wait_reply(message)
    assert at <= when(reply)
    assert other == "after it" or when(reply) <= at + SOON_MS
    assert nothing_left(echo)
    assert echo.reply_count() == echo.counter("received") == 1


def server_ms(echo: EchoRun) -> float:
    seconds, microseconds = echo.client.time()
    return seconds * 1000 + microseconds / 1000


def test_a_stopped_replica_delivers_when_it_comes_again(echo: EchoRun) -> None:
    """Stopped as by Ctrl+C, with nobody beside it."""
    first = echo.start(echo_component(later))
    message = echo.send(0.4)
    [at] = until(lambda: due(echo))
    first.stop()
    until(lambda: server_ms(echo) > at)
    until(lambda: not echo.client.exists(echo.names.alive(first.consumer)))
    assert echo.reply_count() == 0
    echo.start(echo_component(later))
    echo.wait_reply(message)
    assert echo.reply_count() == 1


def test_a_server_that_dies_forgets_none(own_echo: EchoRun, own_server: OwnServer) -> None:
    """Killed and started again before it is due, and after."""
    replica = own_echo.start(echo_component(later))
    soon, late = own_echo.send(0.2), own_echo.send(3)
    until(lambda: waiting(own_echo) == 2)
    own_server.kill()
    until(lambda: time.time() > when(soon) / 1000 + 0.5)
    own_server.restart()
    for message in (soon, late):
        own_echo.wait_reply(message)
    assert said(own_echo) == pytest.approx([0.2, 3])
    assert replica.status.commits >= 1


def test_a_stale_commit_stages_it_once(echo: EchoRun) -> None:
    """The handler runs again on fresh values: only what the commit that stood staged comes."""
    runs: list[int] = []

    def unsure(message: Message, context: Context) -> None:
        context.table("sum").get("all")
        runs.append(1)
        if len(runs) == 1:  # somebody else writes meanwhile
            echo.client.hset(echo.names.table("sum"), "all", '{"total":100}')
        context.send(message.reply(OUTPUT, numbers(len(runs))), after_s=1.0)

    echo.start(echo_component(unsure))
    echo.send(1)
    assert len(until(lambda: due(echo))) == 1
    until(lambda: echo.reply_count())
    assert said(echo) == [2.0]
    assert nothing_left(echo)


# what is in the way


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused commit is tried again soon."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)


@pytest.mark.parametrize("broken", ["later", "later_bodies", "stream"])
@pytest.mark.usefixtures("impatient")
def test_a_key_of_another_type_refuses_the_whole_commit(echo: EchoRun, broken: str) -> None:
    """Nothing is half done; without it the message goes through."""
    names = echo.names
    keys = {
        "later": names.later("echo"),
        "later_bodies": names.later_bodies("echo"),
        "stream": names.stream(*REPLIES.key),
    }
    replica = echo.start(echo_component(later))
    kept = echo.client.dump(keys[broken])
    echo.client.set(keys[broken], "somebody's own")
    message = echo.send(0.05)
    until(lambda: echo.pending() == 1 and held(replica))
    others = [names.later("echo"), names.later_bodies("echo"), names.counters("echo")]
    assert echo.client.exists(*[key for key in others if key != keys[broken]]) == 0
    if kept is None:
        echo.client.delete(keys[broken])
    else:  # in one go: a moment without it would be filled at once
        echo.client.restore(keys[broken], 0, kept, replace=True)
    echo.wait_reply(message)
    assert echo.counter("received") == echo.reply_count() == 1
    assert nothing_left(echo)


@pytest.mark.usefixtures("impatient")
def test_a_count_that_is_no_number_refuses_the_whole_commit(echo: EchoRun) -> None:
    """Nothing is half done until it is one again."""
    bodies = echo.names.later_bodies("echo")
    replica = echo.start(echo_component(later))
    echo.client.hset(bodies, "count", "many")
    message = echo.send(0.05)
    until(lambda: echo.pending() == 1 and held(replica))
    assert echo.counter("received") == waiting(echo) == 0
    assert echo.client.hkeys(bodies) == [b"count"]
    echo.client.hset(bodies, "count", "41")
    echo.wait_reply(message)
    assert echo.client.hget(bodies, "count") == b"42"


def held(replica: Replica) -> bool:
    return bool(replica.status.refused)


def test_what_cannot_be_sent_waits_and_holds_up_nobody(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream was replaced meanwhile: a person is told once, others pass, then it comes."""
    tries = counted(monkeypatch, Scheduler, "deliver")

    def two(message: Message, context: Context) -> None:
        context.send(message.reply(OUTPUT, numbers(1)), after_s=1.0)  # the test needs some time
        context.send(message.reply(INPUT, numbers(0)), after_s=1.1)

    def only_once(message: Message) -> bool:
        return message.array[0] != 0

    key = echo.names.stream(*REPLIES.key)
    echo.start(echo_component(two, when=only_once))
    with structlog.testing.capture_logs() as lines:
        echo.send(1)
        until(lambda: waiting(echo) == 2)
        kept = echo.client.dump(key)
        echo.client.set(key, "somebody's own")
        until(lambda: echo.client.xlen(echo.names.stream(*REQUESTS.key)) == 2)
        tries.clear()
        time.sleep(0.5)  # some heartbeats
        assert waiting(echo) == 1
        assert 1 <= len(tries) <= 10  # each of them tries once
        echo.client.restore(key, 0, kept, replace=True)
        until(lambda: echo.reply_count() == 1)
    [told] = [line for line in lines if "cannot be sent" in line["event"]]
    assert told["reason"] == f"key {key} is a string, expected a stream"
    assert nothing_left(echo)


def test_many_that_cannot_be_sent_keep_nobody_busy(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one call looks at: each heartbeat tries once, and all come in the end."""

    def burst(message: Message, context: Context) -> None:
        for number in range(150):
            context.send(message.reply(OUTPUT, numbers(number)), after_s=1.0)

    tries = counted(monkeypatch, Scheduler, "deliver")
    key = echo.names.stream(*REPLIES.key)
    echo.start(echo_component(burst))
    echo.send(1)
    [at, *_] = until(lambda: due(echo))
    kept = echo.client.dump(key)
    echo.client.set(key, "somebody's own")
    until(lambda: server_ms(echo) > at + 100)
    tries.clear()
    time.sleep(0.5)  # some heartbeats
    assert 1 <= len(tries) <= 10
    echo.client.restore(key, 0, kept, replace=True)
    until(lambda: echo.reply_count() == 150)
    assert said(echo) == list(range(150))


def test_scripts_that_the_server_forgot_are_no_obstacle(echo: EchoRun) -> None:
    """SCRIPT FLUSH before it is staged, and before it is due."""
    echo.start(echo_component(later))
    echo.client.script_flush()
    message = echo.send(0.3)
    until(lambda: waiting(echo) == 1)
    echo.client.script_flush()
    echo.wait_reply(message)
    assert echo.reply_count() == 1


def test_who_waits_asks_no_more_than_who_does_not(
    own_echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle replica with a message that is due in an hour; its housekeeping sleeps, too."""
    turns = counted(monkeypatch, Housekeeping, "_wait")
    defaults = {"heartbeat_interval_s": 1.0, "heartbeat_lives_s": 3.0, "lease_s": 5.0}
    own_echo.start(echo_component(later), block_s=RuntimeSettings().block_s, **defaults)
    own_echo.send(3600)
    until(lambda: waiting(own_echo) == 1)
    turns.clear()
    assert count_commands(own_echo, beats=4) <= 3 * (4 + 1)  # as of an idle replica
    assert len(turns) <= 2 * 4 + 1


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[None]:
    """One item for each call of a method from now on."""
    calls: list[None] = []
    original = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        calls.append(None)
        return original(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_a_client_cannot_send_later(echo: EchoRun) -> None:
    """It may be gone by then, and nobody else would deliver it."""
    with (
        Client(ECHO, echo.names.run, echo.url) as client,
        pytest.raises(ContractError, match="it cannot delay messages"),
    ):
        client.commit(lambda context: context.send(Message.open(INPUT, numbers(1)), after_s=1))
