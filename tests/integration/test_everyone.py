"""`everyone` mode: each replica sees each message, and nobody waits for it."""

from __future__ import annotations

import structlog

from roomgrad import Array, Component, Context, Message, Room, RuntimeSettings, Stream, System, on
from roomgrad.redis.client import Client
from roomgrad.runtime.dead_letters import ERROR_STREAM
from roomgrad.testing import wait_for
from tests.integration.conftest import Cage
from tests.integration.parrots import CAGE, FORWARD, HEARD, PARROTS, PERCH, SAID, numbers, parrot
from tests.waiting import until


class Watcher:
    """A component that sees everything that is said in the cage."""

    def __init__(self, system: System = PARROTS, room: Room = CAGE) -> None:
        self.seen: list[float] = []
        self.missed: list[int] = []
        handler = on(room, FORWARD)(self.look)
        self.component = Component("watcher", system, RuntimeSettings, [handler], everyone=True)

    def look(self, message: Message, context: Context) -> None:
        self.seen.append(float(message.array[0]))
        self.missed.append(context.missed)
        context.counters.add("seen")


def test_each_replica_sees_each_message(cage: Cage) -> None:
    """Two watchers see what the parrot hears; the parrot hears it once."""
    watchers = [Watcher(), Watcher()]
    for watcher in watchers:
        cage.start(watcher.component)
    cage.start(parrot())
    for number in range(5):
        cage.heard(cage.say(number))
    for watcher in watchers:
        until(lambda watcher=watcher: len(watcher.seen) == 5)
        assert watcher.seen == [0, 1, 2, 3, 4]
    until(lambda: cage.counter("seen", "watcher") == 10)
    groups = cage.client.xinfo_groups(cage.names.stream(*HEARD.key))
    assert [group["name"] for group in groups] == [b"parrot"]


def test_an_unnamed_replica_sees_what_comes_from_now_on(cage: Cage) -> None:
    """What was there before it came is not its concern."""
    cage.start(parrot())
    cage.heard(cage.say(1))
    watcher = Watcher()
    cage.start(watcher.component)
    cage.heard(cage.say(2))
    until(lambda: watcher.seen)
    assert watcher.seen == [2.0]
    assert not cage.client.exists(cage.names.position("watcher", ""))


def test_a_named_replica_goes_on_where_it_stopped(cage: Cage) -> None:
    """From its last commit, without a gap and without seeing anything twice."""
    cage.start(parrot())
    for first in range(0, 9, 3):
        watcher = Watcher()
        replica = cage.start(watcher.component, replica="ann")
        cage.heard(cage.say(first))
        until(lambda watcher=watcher, first=first: watcher.seen[-1:] == [first])
        replica.stop()
        until(lambda replica=replica: not alive(cage, replica.consumer))
        for number in (first + 1, first + 2):
            cage.heard(cage.say(number))
        expected = [first] if first == 0 else [first - 2, first - 1, first]
        assert watcher.seen == expected
        assert set(watcher.missed) == {0}


def alive(cage: Cage, consumer: str) -> bool:
    return bool(cage.client.exists(cage.names.alive(consumer)))


def test_a_named_replica_that_saw_nothing_yet_misses_nothing(cage: Cage) -> None:
    """It begins where it first came, not where it comes again."""
    cage.start(parrot())
    replica = cage.start(Watcher().component, replica="ann")
    replica.stop()
    until(lambda: not alive(cage, replica.consumer))
    cage.heard(cage.say(1))
    watcher = Watcher()
    cage.start(watcher.component, replica="ann")
    until(lambda: watcher.seen == [1.0])


def test_a_named_replica_is_told_how_much_it_missed(cage: Cage) -> None:
    """It does not delay trimming; what was trimmed while it was away is counted."""
    key = cage.names.stream(*HEARD.key)
    trimming = {"history_entries": 4}
    cage.start(parrot(), **trimming)
    first = Watcher()
    replica = cage.start(first.component, replica="ann")
    cage.heard(cage.say(0))
    until(lambda: first.seen == [0.0])
    replica.stop()
    until(lambda: not alive(cage, replica.consumer))
    for number in range(1, 21):
        cage.heard(cage.say(number))
    until(lambda: cage.client.xlen(key) <= 6)
    left = [entry for entry, _ in cage.client.xrange(key)]
    second = Watcher()
    with structlog.testing.capture_logs() as lines:
        cage.start(second.component, replica="ann")
        cage.heard(cage.say(21))
        until(lambda: second.seen[-1:] == [21.0])
    count = 20 - len(left)
    assert second.missed[0] == count > 0
    assert sum(second.missed) == count
    assert second.seen == [float(n) for n in range(21 - len(left), 22)]
    assert any(line.get("count") == count for line in lines)


def test_two_replicas_of_one_name_share_its_position(cage: Cage) -> None:
    """Each message has its effect once, and the one who comes second does not spin."""
    watchers = [Watcher(), Watcher()]
    for watcher in watchers:
        cage.start(watcher.component, replica="ann")
    cage.start(parrot())
    for number in range(10):
        cage.heard(cage.say(number))
    until(lambda: cage.counter("seen", "watcher") == 10)
    cage.heard(cage.say(10))
    until(lambda: cage.counter("seen", "watcher") == 11)
    assert all(len(watcher.seen) < 60 for watcher in watchers)


def test_what_a_watcher_cannot_take_harms_nobody(cage: Cage) -> None:
    """Its handler raises: a dead letter says so, the root goes on, and so does the watcher."""
    seen: list[float] = []

    def look(message: Message, context: Context) -> None:
        if message.array[0] < 0:
            raise ValueError("too dark")
        seen.append(float(message.array[0]))

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, waits=True)
        return message.reply(PERCH, message.array)

    watcher = Component(
        "watcher", PARROTS, RuntimeSettings, [on(CAGE, FORWARD)(look)], everyone=True
    )
    cage.start(watcher)
    cage.start(parrot(keep))
    cage.heard(cage.say(-1))
    assert "too dark" in wait_for(cage.client, cage.names, ERROR_STREAM).fields["TEXT"]
    cage.inject({"m": "rubbish", "ROOT_ID": "r"})
    cage.heard(cage.say(1))
    until(lambda: seen == [1.0])
    until(lambda: len(cage.dead()) == 3)  # the watcher's two, and the parrot's rubbish
    notices = cage.client.xrange(cage.names.stream("@parrot", "LOG/ERROR"))
    assert [fields[b"ROOT_ID"] for _, fields in notices] == [b"r"]
    assert cage.client.hlen(cage.names.memory("parrot")) == 2


def test_a_stream_without_consumers_can_be_watched(cage: Cage) -> None:
    """Nobody has a group there, and the stream may not exist yet."""
    attic = Room("attic")
    stream = Stream(attic, FORWARD, {"DATA": Array("<f4", ("n",))})
    system = System("attics", (stream,), ("ghost",))
    watcher = Watcher(system, attic)
    cage.start(watcher.component, replica="ann")
    with Client(system, cage.names.run, cage.url) as client:
        client.send(Message.open(attic, numbers(1)))
    until(lambda: watcher.seen == [1.0])


def test_a_watcher_that_lost_its_connection_sees_what_came_meanwhile(cage: Cage) -> None:
    """A broken connection is no reason to miss anything, for a named replica."""
    watcher = Watcher()
    replica = cage.start(watcher.component, replica="ann")
    cage.start(parrot())
    for number in range(5):
        message = cage.say(number)
        for client in cage.client.client_list():
            if client["name"].startswith(replica.consumer):
                cage.client.client_kill_filter(_id=client["id"])
        cage.heard(message)
    until(lambda: watcher.seen[-1:] == [4.0])
    until(lambda: cage.counter("seen", "watcher") == 5)
    assert cage.client.xlen(cage.names.stream(*SAID.key)) == 5
