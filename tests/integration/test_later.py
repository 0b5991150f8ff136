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
from tests.integration.conftest import Cage, OwnServer
from tests.integration.parrots import (
    CAGE,
    FORWARD,
    HEARD,
    PARROTS,
    PERCH,
    SAID,
    later,
    listener,
    numbers,
    parrot,
)
from tests.integration.test_process import count_commands
from tests.waiting import until

SOON_MS = 250  # on a busy machine; some 5 ms on a free one
SELDOM = {"heartbeat_interval_s": 30.0, "heartbeat_lives_s": 60.0}


def waiting(cage: Cage, component: str = "parrot") -> int:
    """How many messages are staged for later."""
    return int(cage.client.zcard(cage.names.later(component)))


def due(cage: Cage, component: str = "parrot") -> list[int]:
    """When they are due, in unix ms of the server."""
    found = cage.client.zrange(cage.names.later(component), 0, -1, withscores=True)
    return [int(score) for _, score in found]


def when(message: Message) -> int:
    """When a message came into its stream."""
    return int(message.entry.split("-")[0])


def said(cage: Cage) -> list[float]:
    """The first numbers of what the parrot has said, in its order."""
    entries = cage.client.xrange(cage.names.stream(*SAID.key))
    return [orjson.loads(fields[b"m"])["DATA"][0] for _, fields in entries]


def nothing_left(cage: Cage) -> bool:
    """Neither a time nor a body."""
    bodies = cage.client.hkeys(cage.names.later_bodies("parrot"))
    return waiting(cage) == 0 and bodies == [b"count"]


# when it comes


def test_it_comes_when_it_is_due(cage: Cage) -> None:
    """Not before, and soon after: with heartbeats half a minute apart, the commit tells."""
    cage.start(parrot(later), **SELDOM)
    for seconds in (0.3, 0.1, 0.5):
        message = cage.say(seconds)
        [at] = until(lambda: due(cage))
        assert at >= when(message) + seconds * 1000
        reply = cage.heard(message)
        assert reply.array.tolist() == message.array.tolist()
        assert at <= when(reply) <= at + SOON_MS
    assert nothing_left(cage)


def test_the_earlier_one_comes_first(cage: Cage) -> None:
    """Whatever was staged first; and of one time, what was staged first."""

    def countdown(message: Message, context: Context) -> None:
        for number in (3, 2, 1):
            context.send(message.reply(PERCH, numbers(number, 0)), after_s=number / 10)
            context.send(message.reply(PERCH, numbers(number, 1)), after_s=number / 10)
        context.send(message.reply(PERCH, numbers(0)))

    cage.start(parrot(countdown), **SELDOM)
    cage.say(1)
    until(lambda: cage.said() == 7)
    entries = cage.client.xrange(cage.names.stream(*SAID.key))
    told = [orjson.loads(fields[b"m"])["DATA"] for _, fields in entries]
    assert told == [[0], [1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]]


def test_it_looks_like_any_other_message(cage: Cage) -> None:
    """Its fields, and the header that rings with its entry; large arrays as raw bytes."""

    def twice(message: Message, context: Context) -> Message:
        reply = message.reply(PERCH, message.array)
        context.send(reply, after_s=0.05)
        return reply

    with cage.client.pubsub() as ears:
        ears.subscribe(cage.names.channel("perch"))
        until(lambda: ears.get_message(timeout=1))
        cage.start(parrot(twice), **SELDOM)
        cage.say(*range(1000))
        rings = [orjson.loads(next_ring(ears)) for _ in range(2)]
    (at_once, fields), (late, late_fields) = cage.client.xrange(cage.names.stream(*SAID.key))
    assert fields == late_fields
    assert len(fields[b"DATA"]) == 4000
    assert [ring.pop("entry").encode() for ring in rings] == [at_once, late]
    assert rings[0] == rings[1]


def next_ring(ears: redis.client.PubSub) -> bytes:
    found = until(lambda: ears.get_message(ignore_subscribe_messages=True, timeout=1))
    return bytes(found["data"])


def test_many_at_once_all_come(cage: Cage) -> None:
    """More than one call of the script delivers; two with one ID are two."""

    def burst(message: Message, context: Context) -> None:
        for number in range(250):
            context.send(message.reply(PERCH, numbers(number), id="same"), after_s=0.2)

    cage.start(parrot(burst), **SELDOM)
    cage.say(1)
    until(lambda: cage.said() == 250)
    assert said(cage) == list(range(250))
    assert nothing_left(cage)


def test_the_loop_goes_on_meanwhile(cage: Cage) -> None:
    """A handler that is busy delays no delivery, and what waits delays no handler."""

    def busy(message: Message, context: Context) -> Message | None:
        if message.array[0]:
            return later(message, context)
        until(lambda: cage.said() == 1)  # inside a handler, until the delayed one is there
        return message.reply(PERCH, message.array)

    cage.start(parrot(busy), **SELDOM)
    delayed, second = cage.say(0.3), cage.say(0)
    assert when(cage.heard(delayed)) <= when(cage.heard(second))


def test_one_that_is_on_everyones_side_sends_later_too(cage: Cage) -> None:
    """A component without a group; each of its two replicas stages its own."""
    handler = on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])(later)
    watcher = Component("watcher", PARROTS, RuntimeSettings, [handler], everyone=True)
    for _ in range(2):
        cage.start(watcher, **SELDOM)
    cage.say(0.2)
    until(lambda: len(due(cage, "watcher")) == 2)
    until(lambda: cage.said() == 2)
    assert waiting(cage, "watcher") == 0


def test_the_first_word_may_come_later(cage: Cage) -> None:
    """What `on_start` stages, once a run."""

    def speak(context: Context) -> None:
        context.send(Message.open(PERCH, numbers(7)), after_s=0.2)

    for _ in range(2):
        cage.start(parrot(on_start=speak))
    until(lambda: cage.said())
    assert said(cage) == [7.0]


def test_the_first_word_of_the_next_run_comes_in_time(own_cage: Cage) -> None:
    """The server was emptied: the keeper, whose next beat is far, is told."""

    def speak(context: Context) -> None:
        context.send(Message.open(PERCH, numbers(7)), after_s=0.2)

    own_cage.start(parrot(on_start=speak), **SELDOM)
    for _ in range(2):
        until(lambda: own_cage.client.exists(own_cage.names.stream(*SAID.key)))
        until(lambda: own_cage.said() == 1)
        own_cage.client.flushall()


# once


def test_replicas_deliver_each_once(cage: Cage) -> None:
    """Three of them, all told by their heartbeats; with a listener that counts."""
    heard: list[float] = []

    def note(message: Message, context: Context) -> None:
        heard.append(float(message.array[1]))
        context.counters.add("heard")

    for _ in range(3):
        cage.start(parrot(later))
    cage.start(listener(note))
    for number in range(30):
        cage.say(0.5, number)
    until(lambda: cage.counter("heard", "listener") == 30)
    until(lambda: nothing_left(cage))
    assert sorted(heard) == list(range(30))
    assert cage.said() == cage.counter("heard") == 30


@pytest.mark.parametrize("other", ["beside it", "after it"])
def test_the_death_of_who_staged_it_changes_nothing(cage: Cage, other: str) -> None:
    """kill -9 before it is due: another replica delivers, at its time, or the next to start."""
    victim = cage.spawn("later", **SELDOM)
    message = cage.say(1.5)
    [at] = until(lambda: due(cage))
    if other == "beside it":
        cage.start(parrot(later))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    if other == "after it":
        until(lambda: server_ms(cage) > at)
        assert cage.said() == 0
        cage.start(parrot(later))
    reply = cage.heard(message)
    assert at <= when(reply)
    assert other == "after it" or when(reply) <= at + SOON_MS
    assert nothing_left(cage)
    assert cage.said() == cage.counter("heard") == 1


def server_ms(cage: Cage) -> float:
    seconds, microseconds = cage.client.time()
    return seconds * 1000 + microseconds / 1000


def test_a_stopped_replica_delivers_when_it_comes_again(cage: Cage) -> None:
    """Stopped as by Ctrl+C, with nobody beside it."""
    first = cage.start(parrot(later))
    message = cage.say(0.4)
    [at] = until(lambda: due(cage))
    first.stop()
    until(lambda: server_ms(cage) > at)
    until(lambda: not cage.client.exists(cage.names.alive(first.consumer)))
    assert cage.said() == 0
    cage.start(parrot(later))
    cage.heard(message)
    assert cage.said() == 1


def test_a_server_that_dies_forgets_none(own_cage: Cage, own_server: OwnServer) -> None:
    """Killed and started again before it is due, and after."""
    replica = own_cage.start(parrot(later))
    soon, late = own_cage.say(0.2), own_cage.say(3)
    until(lambda: waiting(own_cage) == 2)
    own_server.kill()
    until(lambda: time.time() > when(soon) / 1000 + 0.5)
    own_server.restart()
    for message in (soon, late):
        own_cage.heard(message)
    assert said(own_cage) == pytest.approx([0.2, 3])
    assert replica.status.commits >= 1


def test_a_stale_commit_stages_it_once(cage: Cage) -> None:
    """The handler runs again on fresh values: only what the commit that stood staged comes."""
    runs: list[int] = []

    def unsure(message: Message, context: Context) -> None:
        context.table("sum").get("all")
        runs.append(1)
        if len(runs) == 1:  # somebody else writes meanwhile
            cage.client.hset(cage.names.table("sum"), "all", '{"total":100}')
        context.send(message.reply(PERCH, numbers(len(runs))), after_s=0.2)

    cage.start(parrot(unsure))
    cage.say(1)
    assert len(until(lambda: due(cage))) == 1
    until(lambda: cage.said())
    assert said(cage) == [2.0]
    assert nothing_left(cage)


# what is in the way


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused commit is tried again soon."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)


@pytest.mark.parametrize("broken", ["later", "later_bodies", "stream"])
@pytest.mark.usefixtures("impatient")
def test_a_key_of_another_type_refuses_the_whole_commit(cage: Cage, broken: str) -> None:
    """Nothing is half done; without it the message goes through."""
    names = cage.names
    keys = {
        "later": names.later("parrot"),
        "later_bodies": names.later_bodies("parrot"),
        "stream": names.stream(*SAID.key),
    }
    replica = cage.start(parrot(later))
    kept = cage.client.dump(keys[broken])
    cage.client.set(keys[broken], "somebody's own")
    message = cage.say(0.05)
    until(lambda: cage.pending() == 1 and held(replica))
    others = [names.later("parrot"), names.later_bodies("parrot"), names.counters("parrot")]
    assert cage.client.exists(*[key for key in others if key != keys[broken]]) == 0
    if kept is None:
        cage.client.delete(keys[broken])
    else:  # in one go: a moment without it would be filled at once
        cage.client.restore(keys[broken], 0, kept, replace=True)
    cage.heard(message)
    assert cage.counter("heard") == cage.said() == 1
    assert nothing_left(cage)


@pytest.mark.usefixtures("impatient")
def test_a_count_that_is_no_number_refuses_the_whole_commit(cage: Cage) -> None:
    """Nothing is half done until it is one again."""
    bodies = cage.names.later_bodies("parrot")
    replica = cage.start(parrot(later))
    cage.client.hset(bodies, "count", "many")
    message = cage.say(0.05)
    until(lambda: cage.pending() == 1 and held(replica))
    assert cage.counter("heard") == waiting(cage) == 0
    assert cage.client.hkeys(bodies) == [b"count"]
    cage.client.hset(bodies, "count", "41")
    cage.heard(message)
    assert cage.client.hget(bodies, "count") == b"42"


def held(replica: Replica) -> bool:
    return replica.status.handling is not None


def test_what_cannot_be_sent_waits_and_holds_up_nobody(
    cage: Cage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream was replaced meanwhile: a person is told once, others pass, then it comes."""
    tries = counted(monkeypatch, Scheduler, "deliver")

    def two(message: Message, context: Context) -> None:
        context.send(message.reply(PERCH, numbers(1)), after_s=0.2)
        context.send(message.reply(CAGE, numbers(0)), after_s=0.3)

    def only_once(message: Message) -> bool:
        return message.array[0] != 0

    key = cage.names.stream(*SAID.key)
    cage.start(parrot(two, when=only_once))
    with structlog.testing.capture_logs() as lines:
        cage.say(1)
        until(lambda: waiting(cage) == 2)
        kept = cage.client.dump(key)
        cage.client.set(key, "somebody's own")
        until(lambda: cage.client.xlen(cage.names.stream(*HEARD.key)) == 2)
        tries.clear()
        time.sleep(0.5)  # some heartbeats
        assert waiting(cage) == 1
        assert 1 <= len(tries) <= 10  # each of them tries once
        cage.client.restore(key, 0, kept, replace=True)
        until(lambda: cage.said() == 1)
    [told] = [line for line in lines if "cannot be sent" in line["event"]]
    assert told["reason"] == f"key {key} is a string, expected a stream"
    assert nothing_left(cage)


def test_many_that_cannot_be_sent_keep_nobody_busy(
    cage: Cage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one call looks at: each heartbeat tries once, and all come in the end."""

    def burst(message: Message, context: Context) -> None:
        for number in range(150):
            context.send(message.reply(PERCH, numbers(number)), after_s=0.2)

    tries = counted(monkeypatch, Scheduler, "deliver")
    key = cage.names.stream(*SAID.key)
    cage.start(parrot(burst))
    cage.say(1)
    [at, *_] = until(lambda: due(cage))
    kept = cage.client.dump(key)
    cage.client.set(key, "somebody's own")
    until(lambda: server_ms(cage) > at + 100)
    tries.clear()
    time.sleep(0.5)  # some heartbeats
    assert 1 <= len(tries) <= 10
    cage.client.restore(key, 0, kept, replace=True)
    until(lambda: cage.said() == 150)
    assert said(cage) == list(range(150))


def test_scripts_that_the_server_forgot_are_no_obstacle(cage: Cage) -> None:
    """SCRIPT FLUSH before it is staged, and before it is due."""
    cage.start(parrot(later))
    cage.client.script_flush()
    message = cage.say(0.3)
    until(lambda: waiting(cage) == 1)
    cage.client.script_flush()
    cage.heard(message)
    assert cage.said() == 1


def test_who_waits_asks_no_more_than_who_does_not(
    own_cage: Cage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle replica with a message that is due in an hour; its keeper sleeps, too."""
    turns = counted(monkeypatch, Housekeeping, "_wait")
    defaults = {"heartbeat_interval_s": 1.0, "heartbeat_lives_s": 3.0, "lease_s": 5.0}
    own_cage.start(parrot(later), block_s=RuntimeSettings().block_s, **defaults)
    own_cage.say(3600)
    until(lambda: waiting(own_cage) == 1)
    turns.clear()
    assert count_commands(own_cage, beats=4) <= 2 * 4 + 1
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


def test_a_client_cannot_send_later(cage: Cage) -> None:
    """It may be gone by then, and nobody else would deliver it."""
    with (
        Client(PARROTS, cage.names.run, cage.url) as client,
        pytest.raises(ContractError, match="it cannot send later"),
    ):
        client.commit(lambda context: context.send(Message.open(CAGE, numbers(1)), after_s=1))
