"""Handlers that misbehave, and messages that are too large: the loop lives, and says why."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest
import structlog
from numpy.typing import NDArray

from roomgrad import Context, Message
from roomgrad.codec import encode
from roomgrad.component import HandlerFunction
from roomgrad.errors import ServerError
from roomgrad.runtime.dead_letters import HEAD_BYTES, SMALL_LETTER_BYTES
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import (
    GRADIENT,
    INPUT,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    numbers,
    repeat,
)
from tests.waiting import until


def raising(error: BaseException) -> HandlerFunction:
    def handler(message: Message, context: Context) -> Message:
        raise error

    return handler


def returning(make: Callable[[Message], Any]) -> HandlerFunction:
    def handler(message: Message, context: Context) -> Any:
        return make(message)

    return handler


def leave(message: Message, context: Context) -> Message:
    sys.exit("done")


def recurse(message: Message, context: Context) -> Message:
    return recurse(message, context)


def count_far(message: Message, context: Context) -> Message:
    context.counters.add("received", 10**30)
    return message.reply(OUTPUT, message.array)


def write_later_than_ever(message: Message, context: Context) -> None:
    context.send(message.reply(OUTPUT, message.array), after_s=1e300)


class Mute(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


def endless() -> list[Any]:
    nested: list[Any] = []
    nested.append(nested)
    return nested


MISBEHAVING: dict[str, tuple[HandlerFunction, str, int]] = {
    # name: handler, reason, deliveries of two (1: no other try would help)
    "raises": (raising(ValueError("no")), "ValueError: no", 2),
    "sys.exit": (leave, "SystemExit: done", 2),
    "KeyboardInterrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt", 2),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit", 2),
    "RecursionError": (recurse, "RecursionError: maximum recursion depth", 2),
    "MemoryError": (raising(MemoryError()), "MemoryError", 2),
    "an error without words": (raising(Mute()), "Mute: <exception str() failed>", 2),
    "a number": (returning(lambda m: 42), "a handler returned 42: expected a Message", 2),
    "a text": (returning(lambda m: "hello"), "a handler returned 'hello': expected", 2),
    "a dict": (returning(lambda m: {"DATA": 1}), "a handler returned {'DATA': 1}: expected", 2),
    "an array": (returning(lambda m: m.array), "a handler returned array([", 2),
    "lists in lists": (returning(lambda m: endless()), "a handler returned [[[", 2),
    "no messages": (returning(lambda m: [m.reply(OUTPUT, m.array), None]), "expected a Message", 2),
    "a room it did not declare": (returning(lambda m: m.reply("moon")), "to moon; its handler", 2),
    "a type it did not declare": (
        returning(lambda m: m.reply(INPUT, m.array, type=GRADIENT)),
        "replied DATA/GRADIENT to input",
        2,
    ),
    "no DATA": (returning(lambda m: m.reply(OUTPUT)), "field DATA of shape (n,) is missing", 1),
    "a wrong shape": (
        returning(lambda m: m.reply(OUTPUT, m.array[None])),
        "expected shape (n,), got (1, 1)",
        1,
    ),
    "a wrong dtype": (
        returning(lambda m: m.reply(OUTPUT, m.array.astype("<f8"))),
        "expected dtype <f4, got <f8",
        1,
    ),
    "NaN": (returning(lambda m: m.reply(OUTPUT, m.array * np.nan)), "expected finite numbers", 1),
    "texts for numbers": (returning(lambda m: m.reply(OUTPUT, "ab")), "expected numbers", 1),
    "another field": (returning(lambda m: m.reply(OUTPUT, m.array, X=1)), "unknown field 'X'", 1),
    "more than 64 MiB": (
        returning(lambda m: m.reply(OUTPUT, np.zeros(2**24 + 1, "<f4"))),
        "67108864 bytes at most, split the batch",
        1,
    ),
    "a counter beyond all numbers": (count_far, "cannot be committed: counter received", 1),
    "a delay without end": (write_later_than_ever, "after_s: expected seconds from 0 to 1e+09", 2),
}


@dataclass
class Misbehaved:
    """A run in which a handler did all of it, one message after the other."""

    echo: EchoRun
    messages: dict[str, Message]
    letters: dict[str, dict[str, Any]]
    """History by root."""


SERVERS = ["embedded", pytest.param("redis8", marks=pytest.mark.docker)]


@pytest.fixture(scope="module", params=SERVERS)
def misbehaved(request: pytest.FixtureRequest) -> Iterator[Misbehaved]:
    url = str(request.getfixturevalue(f"{request.param}_url"))
    by_number = dict(enumerate(MISBEHAVING.values()))

    def handler(message: Message, context: Context) -> Any:
        misbehave = by_number[int(message.array[0])][0] if message.array[0] >= 0 else repeat
        message.data = numbers(1)
        return misbehave(message, context)

    logs = structlog.testing.capture_logs()  # to lay out so many tracebacks would take its time
    with logs, contextlib.contextmanager(make_echo_run)(url) as echo:
        replica = echo.start(echo_component(handler), max_deliveries=2)
        before = echo.send(-1)
        messages = {name: echo.send(number) for number, name in enumerate(MISBEHAVING)}
        for good in (before, echo.send(-2)):
            echo.wait_reply(good, timeout_s=40)
        until(lambda: found if len(found := echo.dead_letters()) >= len(MISBEHAVING) else None)
        until(lambda: echo.pending() == 0)
        echo.wait_reply(echo.send(-3))
        assert echo.client.exists(echo.names.alive(replica.consumer))
        roots = {
            each[b"ROOT_ID"].decode(): orjson.loads(each[b"history"])
            for each in echo.dead_letters()
        }
        yield Misbehaved(echo, messages, roots)


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_handler_that_misbehaves_ends_its_message(misbehaved: Misbehaved, name: str) -> None:
    """It is tried again where that may help; then it is a dead letter that says why."""
    _, reason, deliveries = MISBEHAVING[name]
    history = misbehaved.letters[misbehaved.messages[name].root_id]
    assert reason in history["reason"]
    assert history["deliveries"] == deliveries


def test_it_ends_nothing_else(misbehaved: Misbehaved) -> None:
    """The same replica handles what came before, between and after, once."""
    echo = misbehaved.echo
    assert echo.counter("received") == echo.reply_count() == 3
    assert len(echo.dead_letters()) == len(MISBEHAVING)
    assert len({history["by"] for history in misbehaved.letters.values()}) == 1
    assert not echo.client.exists(echo.names.memory("echo"))


def test_a_list_for_an_array_is_written_as_one(echo: EchoRun) -> None:
    """What fits the schema is sent, also in its header."""
    echo.start(echo_component(returning(lambda m: m.reply(OUTPUT, [1.0, 2.0]))))
    assert echo.wait_reply(echo.send(1)).array.tolist() == [1.0, 2.0]


def test_a_handler_may_write_very_much(echo: EchoRun) -> None:
    """A hundred thousand records in one commit, once."""

    def hoard(message: Message, context: Context) -> Message:
        context.counters.add("received")
        for number in range(100_000):
            context.table("records").put(str(number), n=number)
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(hoard), heartbeat_lives_s=5.0)
    echo.wait_reply(echo.send(1), timeout_s=30)
    assert echo.client.hlen(echo.names.table("records")) == 100_000
    assert echo.counter("received") == 1
    assert echo.dead_letters() == []


def test_a_commit_that_no_server_takes_is_a_dead_letter(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many large replies together: it would be sent for ever, and the connection closed."""

    def flood(message: Message, context: Context) -> list[Message]:
        context.counters.add("received")
        count = 8 if message.array[0] < 0 else 1
        return [message.reply(OUTPUT, np.zeros(250_000, "<f4")) for _ in range(count)]

    monkeypatch.setattr("roomgrad.redis.connection.MAX_BYTES", 4_000_000)  # 512 MiB would be slow
    echo.start(echo_component(flood))
    echo.send(-1)
    echo.wait_reply(echo.send(1))
    [letter] = echo.dead_letters()
    assert b"write less with one message" in letter[b"history"]
    assert echo.counter("received") == echo.reply_count() == 1


@pytest.mark.parametrize(("behaviour", "code"), [("die", 9), ("crash", -11), ("hang", 70)])
def test_a_message_that_ends_its_process_ends_as_a_dead_letter(
    echo: EchoRun, behaviour: str, code: int
) -> None:
    """By os._exit, SIGSEGV or the watchdog: with those before and after it nothing happens."""
    good, bad, other = echo.send(5), echo.send(-1), echo.send(6)
    for _ in range(2):
        victim = echo.spawn(behaviour, max_deliveries=2, handler_timeout_s=0.5)
        assert victim.wait(30) == code
    last = echo.spawn(behaviour, max_deliveries=2, handler_timeout_s=0.5)
    [letter] = until(echo.dead_letters)
    history = orjson.loads(letter[b"history"])
    assert history["reason"] == "delivered 2 times and never committed"
    assert history["entry"] == bad.entry
    for message in (good, other):
        echo.wait_reply(message)
    assert echo.counter("received") == echo.reply_count() == 2
    until(lambda: echo.pending() == 0)
    assert last.poll() is None


# sizes


def shout(echo: EchoRun, array: NDArray[np.float32]) -> Message:
    message = Message.open(INPUT, array)
    fields = encode(message, REQUESTS)
    echo.client.execute_command("XADD", echo.names.stream(*REQUESTS.key), "*", *fields)
    return message


def test_a_large_dead_letter_is_kept_whole_within_limits(echo: EchoRun) -> None:
    """Beyond them it keeps its beginning, its size and its SHA-1; small ones are kept whole."""
    echo.start(echo_component(raising(ValueError("no"))), max_deliveries=1, dead_mib=1.0)
    for count in (150_000, 150_000, 150_000, 500):  # 600 kB, and 2
        shout(echo, np.ones(count, "<f4"))
    letters = until(lambda: found if len(found := echo.dead_letters()) == 4 else None)
    assert [len(letter[b"DATA"]) for letter in letters] == [600_000, HEAD_BYTES, HEAD_BYTES, 2000]
    assert SMALL_LETTER_BYTES > 2000
    shortened = [orjson.loads(letter[b"history"]).get("shortened") for letter in letters]
    assert shortened[0] is shortened[3] is None
    [about] = shortened[1]["large"]
    sha1 = hashlib.sha1(np.ones(150_000, "<f4").tobytes()).hexdigest()
    assert about == {"field": "DATA", "bytes": 600_000, "sha1": sha1}
    echo.client.delete(echo.names.dead())  # somebody deletes them: there is room again
    shout(echo, np.ones(150_000, "<f4"))
    [letter] = until(echo.dead_letters)
    assert len(letter[b"DATA"]) == 600_000


def test_a_flood_of_large_letters_is_not_weighed_one_by_one(own_echo: EchoRun) -> None:
    """To weigh them the server walks through all of them, and answers nobody else meanwhile."""
    own_echo.start(echo_component())
    with own_echo.client.monitor() as monitor:
        for _ in range(50):
            own_echo.add({"m": "x" * 10_000}, REQUESTS)
        until(lambda: len(own_echo.dead_letters()) == 50)
        own_echo.client.echo("the end")
        commands = iter(lambda: monitor.next_command()["command"], "ECHO the end")
        weighed = [command for command in commands if command.endswith("SAMPLES 0")]
    assert len(weighed) == 1


HUGE = 100_000_000


@pytest.mark.parametrize("fields", [1, 10])
def test_a_hundred_megabytes_are_a_short_letter(own_echo: EchoRun, fields: int) -> None:
    """In one field, or in ten: nobody could decode it, so its beginning and its sums are kept."""
    own_echo.start(echo_component())
    own_echo.wait_reply(own_echo.send(1))
    part = os.urandom(1000) * (HUGE // 1000 // fields)
    own_echo.add({"m": "no", **{f"f{n}": part for n in range(fields)}}, REQUESTS)
    own_echo.wait_reply(own_echo.send(2), timeout_s=30)
    [letter] = own_echo.dead_letters()
    history = orjson.loads(letter[b"history"])
    assert "67108864 bytes at most" in history["reason"]
    assert history["shortened"]["bytes"] > HUGE
    assert [each["bytes"] for each in history["shortened"]["large"]] == [len(part)] * fields
    assert own_echo.client.memory_usage(own_echo.names.dead(), samples=0) < 100_000
    assert own_echo.counter("received") == 2


def test_a_hundred_megabytes_on_a_channel_are_not_heard(own_echo: EchoRun) -> None:
    """The server closes the connections of those who listen; they come back, and hear the next."""
    own_echo.start(echo_component())
    channel = own_echo.names.channel("input")
    until(lambda: own_echo.client.pubsub_numsub(channel)[0][1] == 1)
    own_echo.client.publish(channel, b"x" * HUGE)
    own_echo.wait_reply(own_echo.send(1), timeout_s=30)
    until(lambda: own_echo.client.pubsub_numsub(channel)[0][1] == 1)
    text = b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","DATA":[1]}'
    until(lambda: own_echo.client.publish(channel, text) and own_echo.reply_count() == 2)
    assert own_echo.dead_letters() == []


def test_a_message_of_almost_64_mib_is_one(own_echo: EchoRun) -> None:
    """The limit is no lower than it says."""
    own_echo.start(echo_component(returning(lambda m: m.reply(OUTPUT, numbers(m.array.sum())))))
    message = shout(own_echo, np.ones(2**24 - 1000, "<f4"))
    assert own_echo.wait_reply(message, timeout_s=30).array.tolist() == [2**24 - 1000]


# streams without IDs

HIGHEST = "18446744073709551615-18446744073709551615"


def test_a_reply_waits_while_its_stream_has_no_ids(
    echo: EchoRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written until somebody deletes the key; then all of it, once."""
    monkeypatch.setattr("roomgrad.runtime.committer.REFUSED_PAUSE_S", 0.05)
    replica = echo.start(echo_component())
    key = echo.names.stream(*REPLIES.key)
    echo.client.xadd(key, {"m": "{}"}, id=HIGHEST)
    with structlog.testing.capture_logs() as lines:
        message = echo.send(1)
        until(lambda: [each for each in lines if "used up its IDs" in str(each)])
    assert "used up its IDs" in replica.status.refused
    assert echo.pending() == 1
    assert echo.counter("received") == 0
    echo.client.delete(key)
    assert echo.wait_reply(message).array.tolist() == [2.0]
    assert echo.counter("received") == 1


def test_a_component_whose_stream_has_no_ids_goes_on_after_it_was_deleted(echo: EchoRun) -> None:
    """The sender is told, and the groups are created again."""
    echo.start(echo_component())
    key = echo.names.stream(*REQUESTS.key)
    echo.client.xadd(key, {"m": "no"}, id=HIGHEST)
    until(lambda: len(echo.dead_letters()) == 1)
    with pytest.raises(ServerError, match="used up its IDs"):
        echo.send(1)
    echo.client.delete(key)
    assert echo.wait_reply(echo.send(2)).array.tolist() == [4.0]
    assert echo.counter("received") == 1
