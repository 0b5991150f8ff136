"""Messages that wait are read in groups: with the guarantees of messages that come alone."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import redis

from roomgrad import Context, Message
from roomgrad.redis.client import Client
from roomgrad.runtime import loop, read_count
from roomgrad.runtime.handling_times import Times
from tests.integration.conftest import EchoRun
from tests.integration.echo import (
    ECHO,
    INPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    numbers,
    repeat,
)
from tests.waiting import until

MANY = 60
MIDDLE = 40  # a message that is read in a group of 16, with others before and behind it


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any message may seem slow; groups grow all the same here."""
    for module in (loop, read_count):
        monkeypatch.setattr(module, "GROUP_S", 60.0)


def send_many(echo: EchoRun, values: Iterable[float] = range(MANY)) -> list[Message]:
    """Send messages one after the other, before a replica reads them."""
    with Client(ECHO, echo.names.run, echo.url) as client:
        messages = [Message.open(INPUT, numbers(value)) for value in values]
        for message in messages:
            message.entry = client.send(message)
    return messages


def answered(echo: EchoRun) -> list[str]:
    """Return the roots of the replies, in their order."""
    entries = echo.client.xrange(echo.names.stream(*REPLIES.key))
    return [fields[b"ROOT_ID"].decode() for _, fields in entries]


def all_answered(echo: EchoRun, messages: list[Message]) -> None:
    """Wait until no message is owed; each has been handled once by then."""
    until(lambda: echo.reply_count() >= len(messages) and not echo.pending())
    assert sorted(answered(echo)) == sorted(message.root_id for message in messages)
    assert echo.counter("received") == len(messages)


class AtMiddle:
    """A handler that first does something of the test's with message `MIDDLE`."""

    def __init__(self, echo: EchoRun, action: Callable[[Message, Context], None]) -> None:
        self._echo, self._action = echo, action
        self.runs: list[float] = []
        self.behind = 0
        """Messages that were read with it and not begun before it."""

    def __call__(self, message: Message, context: Context) -> Message:
        number = float(message.array[0])
        self.runs.append(number)
        if number == MIDDLE:
            self.behind = self.behind or len(pending_after(self._echo, message.entry))
            self._action(message, context)
        return repeat(message, context)


def pending_after(echo: EchoRun, entry: str) -> list[Any]:
    """Return what was delivered of the entries behind one."""
    key = echo.names.stream(*REQUESTS.key)
    found: Any = echo.client.xpending_range(key, "echo", min=f"({entry}", max="+", count=100)
    return list(found)


def first_time(action: Callable[[], Any]) -> Callable[[Message, Context], None]:
    """Return an action of `AtMiddle` that does something when it is called first."""
    calls: list[Message] = []

    def called(message: Message, context: Context) -> None:
        calls.append(message)
        if len(calls) == 1:
            action()

    return called


# order and cost


def test_messages_that_wait_are_read_together_and_answered_in_order(own_echo: EchoRun) -> None:
    """Each with its own commit, and each counted and timed as one."""
    messages = send_many(own_echo)
    before = calls(own_echo.client, "xreadgroup")
    replica = own_echo.start(echo_component())
    all_answered(own_echo, messages)
    assert answered(own_echo) == [message.root_id for message in messages]
    assert calls(own_echo.client, "xreadgroup") - before < MANY / 2
    until(lambda: replica.status.commits == MANY)
    times = [
        Times.read(fields[b"times"])
        for _, fields in own_echo.client.xrange(own_echo.names.stream(*REPLIES.key))
    ]
    assert [each.answers for each in times if each] == [message.entry for message in messages]
    sent = [each.sent_at for each in times if each]
    assert sent == sorted(sent)


def calls(client: redis.Redis, command: str) -> int:
    found: Any = client.info("commandstats")
    return int(found.get(f"cmdstat_{command}", {}).get("calls", 0))


def test_messages_of_a_slow_handler_are_read_one_by_one(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that replicas share them evenly."""
    for module in (loop, read_count):
        monkeypatch.setattr(module, "GROUP_S", 0.004)
    messages = send_many(echo, range(30))
    most = 0

    def slow(message: Message, context: Context) -> Message:
        nonlocal most
        time.sleep(0.02)
        most = max(most, len(pending_after(echo, message.entry)))
        return repeat(message, context)

    replicas = [echo.start(echo_component(slow)) for _ in range(2)]
    all_answered(echo, messages)
    assert most <= 1  # that of the other replica
    until(lambda: sum(replica.status.commits for replica in replicas) == len(messages))
    assert min(replica.status.commits for replica in replicas) >= 5


# in the middle of a group


def test_a_handler_that_raises_delays_only_its_own_message(echo: EchoRun) -> None:
    """The others are committed; it is tried again alone."""

    def choke() -> None:
        raise RuntimeError("bad mood")

    messages, handler = send_many(echo), AtMiddle(echo, first_time(choke))
    echo.start(echo_component(handler), lease_s=60)
    all_answered(echo, messages)
    assert handler.behind > 1
    roots = [message.root_id for message in messages]
    assert answered(echo) == [*roots[:MIDDLE], *roots[MIDDLE + 1 :], roots[MIDDLE]]
    assert sorted(handler.runs) == sorted([*range(MANY), MIDDLE])


def test_a_dead_letter_takes_none_of_its_group_along(echo: EchoRun) -> None:
    messages = send_many(echo, range(MIDDLE))
    bad = echo.add({"m": "no message"})
    messages += send_many(echo, range(MIDDLE, MANY))
    echo.start(echo_component())
    all_answered(echo, messages)
    assert answered(echo) == [message.root_id for message in messages]
    [letter] = echo.dead_letters()
    assert bad.encode() in letter[b"history"]


def test_a_stale_commit_is_made_again_alone(echo: EchoRun) -> None:
    """Another program changes what the handler has read before its commit arrives."""
    table = echo.names.table("shared")

    def read(message: Message, context: Context) -> None:
        seen.append(context.table("shared").get("now"))
        change(message, context)

    seen: list[Any] = []
    change = first_time(lambda: echo.client.hset(table, "now", b'{"n":1}'))
    messages, handler = send_many(echo), AtMiddle(echo, read)
    echo.start(echo_component(handler))
    all_answered(echo, messages)
    assert handler.behind > 1
    assert seen == [None, {"n": 1}]
    assert sorted(handler.runs) == sorted([*range(MANY), MIDDLE])


def test_a_message_reads_what_those_before_it_in_its_group_have_written(echo: EchoRun) -> None:
    """Single records, all records, and records that are gone; no handler runs twice for it."""
    seen: list[Any] = []

    def write(message: Message, context: Context) -> Message:
        number, table = int(message.array[0]), context.table("shared")
        total = (context.memory.get("total") or {"n": 0})["n"]
        seen.append((number, total, table.get(str(number - 1)), len(table.peek())))
        context.memory.put("total", n=total + 1)
        table.put(str(number), n=number)
        table.delete(str(number - 1))
        return repeat(message, context)

    messages = send_many(echo)
    echo.start(echo_component(write))
    all_answered(echo, messages)
    first = (0, 0, None, 0)
    assert seen == [first, *((n, n, {"n": n - 1}, 1) for n in range(1, MANY))]


def test_replicas_whose_groups_read_the_same_record_count_each_message_once(echo: EchoRun) -> None:
    """What the other one has changed meanwhile is read again."""

    def count(message: Message, context: Context) -> Message:
        total = (context.memory.get("total") or {"n": 0})["n"]
        context.memory.put("total", n=total + 1)
        return repeat(message, context)

    messages = send_many(echo, range(200))
    for _ in range(2):
        echo.start(echo_component(count))
    all_answered(echo, messages)
    total = echo.client.hget(echo.names.memory("echo"), "total")
    assert total is not None
    assert b'"n":200' in total


def test_a_script_that_is_flushed_in_the_middle_of_a_group_is_loaded_again(
    own_echo: EchoRun,
) -> None:
    messages = send_many(own_echo)
    handler = AtMiddle(own_echo, first_time(own_echo.client.script_flush))
    own_echo.start(echo_component(handler))
    all_answered(own_echo, messages)
    assert handler.behind > 1


def kick(echo: EchoRun) -> None:
    """Break the connections of every loop, as a network may."""
    for client in echo.client.client_list():
        if client["name"].endswith(("~loop", "~side")):
            echo.client.client_kill_filter(client["id"])


def test_a_connection_lost_in_the_middle_of_a_group_loses_and_repeats_nothing(
    own_echo: EchoRun,
) -> None:
    messages = send_many(own_echo)
    handler = AtMiddle(own_echo, first_time(lambda: kick(own_echo)))
    own_echo.start(echo_component(handler))
    all_answered(own_echo, messages)
    assert handler.behind > 1
    assert not own_echo.dead_letters()


def test_what_always_breaks_the_connection_is_the_only_dead_letter(own_echo: EchoRun) -> None:
    """A lost connection counts as a delivery of the message that is handled, and of no other."""
    messages = send_many(own_echo)
    handler = AtMiddle(own_echo, lambda _message, _context: kick(own_echo))
    own_echo.start(echo_component(handler), max_deliveries=4)
    bad = messages.pop(MIDDLE)
    all_answered(own_echo, messages)
    assert handler.behind > 1
    [letter] = own_echo.dead_letters()
    assert letter[b"ID"] == bad.id.encode()


# replicas that die, hang and stop


@pytest.mark.parametrize("where", ["send 30", "answer 30", "receive 31", "answer 37", "send 38"])
def test_a_replica_killed_in_a_group_loses_and_repeats_nothing(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Before and after any commit is sent, and between any two answers."""
    messages = send_many(echo)
    monkeypatch.setenv("DIE_AT", where)
    assert echo.spawn("repeat").wait(60) == -signal.SIGKILL
    assert 0 < echo.counter("received") < MANY
    echo.start(echo_component())
    all_answered(echo, messages)
    assert not echo.dead_letters()


def test_what_kills_its_process_is_the_only_dead_letter(echo: EchoRun) -> None:
    """It is delivered again alone: its group has been delivered twice, however often it kills."""
    messages = send_many(echo, [*range(MIDDLE), -1, *range(MIDDLE, MANY)])
    for _ in range(3):
        assert echo.spawn("die", max_deliveries=3).wait(60) == 9
    deliveries = {each["times_delivered"] for each in pending_after(echo, messages[MIDDLE].entry)}
    assert deliveries <= {1, 2}
    echo.start(echo_component(), max_deliveries=3)
    bad = messages.pop(MIDDLE)
    all_answered(echo, messages)
    [letter] = echo.dead_letters()
    assert letter[b"ID"] == bad.id.encode()


class Gate:
    """An action of `AtMiddle` that waits for the test."""

    def __init__(self) -> None:
        self.inside, self._open = threading.Event(), threading.Event()

    def __call__(self, message: Message, context: Context) -> None:
        self.inside.set()
        assert self._open.wait(60)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def test_a_group_waits_for_its_replica_for_a_lease(echo: EchoRun, gate: Gate) -> None:
    """While its replica lives, no other one takes what it is about to handle."""
    messages, handler = send_many(echo), AtMiddle(echo, gate)
    echo.stack.callback(gate.open)
    echo.start(echo_component(handler), lease_s=60)
    assert gate.inside.wait(60)
    waits = [each["consumer"] for each in pending_after(echo, messages[MIDDLE].entry)]
    idle = echo.start(echo_component(), lease_s=60)
    others = len(messages) - MIDDLE - 1 - len(waits)  # that were not read yet
    until(lambda: idle.status.commits == others)
    echo.client.set("later", 1, px=1000)  # longer than a heartbeat lives
    until(lambda: not echo.client.exists("later"))
    still = [each["consumer"] for each in pending_after(echo, messages[MIDDLE].entry)]
    assert len(waits) > 1
    assert still == waits
    gate.open()
    all_answered(echo, messages)


def test_the_group_of_a_handler_that_hangs_is_handed_over(echo: EchoRun, gate: Gate) -> None:
    """Once it takes longer than a lease; its own message stays where it is."""
    messages, handler = send_many(echo), AtMiddle(echo, gate)
    echo.stack.callback(gate.open)
    echo.start(echo_component(handler))
    assert gate.inside.wait(60)
    echo.start(echo_component())
    until(lambda: echo.pending() == 1 and echo.reply_count() == MANY - 1)
    gate.open()
    all_answered(echo, messages)
    assert handler.behind > 1
    assert not echo.dead_letters()


def test_what_is_handed_over_was_not_delivered(echo: EchoRun, gate: Gate) -> None:
    """By a replica that hangs or stops: each message still has all its deliveries."""
    messages, handler = send_many(echo), AtMiddle(echo, gate)
    echo.stack.callback(gate.open)
    first = echo.start(echo_component(handler))
    assert gate.inside.wait(60)
    until(lambda: sorted(set(deliveries(echo))) == [0, 1])  # that of the handler counts
    first.stop()
    gate.open()
    until(lambda: not echo.client.exists(echo.names.alive(first.consumer)))
    assert set(deliveries(echo)) == {0}
    echo.start(echo_component(), max_deliveries=1)
    all_answered(echo, messages)
    assert not echo.dead_letters()


def deliveries(echo: EchoRun) -> list[int]:
    """Return how often the group's pending messages were delivered, the oldest first."""
    stream = echo.names.stream(*REQUESTS.key)
    pending = echo.client.xpending_range(stream, "echo", "-", "+", MANY)
    return [each["times_delivered"] for each in pending]


def test_a_replica_that_stops_hands_the_rest_of_its_group_back(echo: EchoRun, gate: Gate) -> None:
    """It commits the message that it handles, and begins no other."""
    messages, handler = send_many(echo), AtMiddle(echo, gate)
    echo.stack.callback(gate.open)
    first = echo.start(echo_component(handler), lease_s=60)
    assert gate.inside.wait(60)
    first.stop()
    gate.open()
    until(lambda: not echo.client.exists(echo.names.alive(first.consumer)))
    assert handler.behind > 1
    assert handler.runs[-1] == MIDDLE
    assert echo.counter("received") == MIDDLE + 1
    assert set(deliveries(echo)) <= {0}
    echo.start(echo_component(), lease_s=60)  # their leases are over at once
    all_answered(echo, messages)


def test_each_message_of_a_group_has_the_time_of_its_own(echo: EchoRun) -> None:
    """A handler counts as hanging from the beginning of its own message."""
    began: list[float] = []
    since: list[float] = []
    started = threading.Event()

    def note(message: Message, context: Context) -> Message:
        assert started.wait(60)
        began.append(time.monotonic())
        since.append(replica.status.handling or 0.0)
        return repeat(message, context)

    messages = send_many(echo)
    replica = echo.start(echo_component(note))
    started.set()
    all_answered(echo, messages)
    assert all(before < handling for before, handling in zip(began, since[1:], strict=False))
