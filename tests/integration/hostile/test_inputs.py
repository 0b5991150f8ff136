"""A run is fed with everything bad that came to mind: each ends where it should, and it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from roomgrad import Context, Message
from roomgrad.runtime.dead_letters import ERROR_STREAM, MOST_FIELDS
from roomgrad.runtime.replica import Replica
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import (
    FORWARD,
    GRADIENTS,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    repeat,
)
from tests.integration.hostile.inputs import ALL, HANDLED, ROOT, Hostile
from tests.waiting import until

PUBLISHED = [each for each in ALL if each.published and each.reason != HANDLED]


@dataclass
class Fed:
    """A run after all of it."""

    echo: EchoRun
    replica: Replica
    entries: dict[str, str]
    """The entry of each input, by its name."""
    letters: dict[str, list[bytes]] = field(default_factory=dict)
    """The dead letters by entry: names and values, as they stand there."""
    answered: list[str] = field(default_factory=list)
    """The roots of what was answered, in order."""
    errors: list[dict[str, Any]] = field(default_factory=list)
    """What the room `errors` says."""


def answered(message: Message, context: Context) -> Message:
    """A gradient: for something that is remembered, once."""
    context.memory.pop(message.id)
    return message.reply(OUTPUT, message.array, type=FORWARD)


def inject(echo: EchoRun, fields: list[bytes]) -> str:
    """XADD as redis-cli does it: names may come twice."""
    entry = echo.client.execute_command("XADD", echo.names.stream(*REQUESTS.key), "*", *fields)
    return str(entry.decode())


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("redis8", marks=pytest.mark.docker)]
)
def fed(request: pytest.FixtureRequest) -> Iterator[Fed]:
    url = str(request.getfixturevalue(f"{request.param}_url"))
    with structlog.testing.capture_logs(), contextlib.contextmanager(make_echo_run)(url) as echo:
        replica = echo.start(echo_component(repeat, answered=answered), history_entries=5000)
        channel = echo.names.channel("input")
        until(lambda: echo.client.pubsub_numsub(channel)[0][1] == 1)
        echo.wait_reply(echo.send(1))
        entries = {}
        for number, each in enumerate(ALL):
            entries[each.name] = inject(echo, marked(each, number))
        for each in PUBLISHED:
            echo.client.publish(channel, each.text)
        echo.wait_reply(echo.send(2), timeout_s=40)
        until(lambda: told(echo) >= len({each.text for each in PUBLISHED}))
        echo.wait_reply(echo.send(3))
        yield look(Fed(echo, replica, entries))


def marked(each: Hostile, number: int) -> list[bytes]:
    """Its fields, with a root of its own."""
    return [part.replace(ROOT, b"root-%d" % number) for part in each.fields]


def told(echo: EchoRun) -> int:
    found = echo.client.zrange(echo.names.taken(), 0, -1)
    return len([token for token in found if token.startswith(b"refused:")])


def look(fed: Fed) -> Fed:
    echo = fed.echo
    # by a script, so that names that come twice in an entry are not lost on the way
    text = "return redis.call('XRANGE', KEYS[1], '-', '+')"
    found: Any = echo.client.eval(text, 1, echo.names.dead())
    fed.letters = {orjson.loads(letter[1])["entry"]: letter for _, letter in found}
    said = echo.client.xrange(echo.names.stream(*REPLIES.key))
    fed.answered = [orjson.loads(fields[b"m"])["ROOT_ID"] for _, fields in said]
    told = echo.client.xrange(echo.names.stream(*ERROR_STREAM.key))
    fed.errors = [orjson.loads(fields[b"m"]) for _, fields in told]
    return fed


@pytest.mark.parametrize("each", ALL, ids=[each.name[:40] for each in ALL])
def test_it_ends_where_it_should(fed: Fed, each: Hostile) -> None:
    """As a dead letter with its reason, as an answer in `errors`, or answered as any other."""
    entry, number = fed.entries[each.name], ALL.index(each)
    if each.reason == HANDLED:
        assert entry not in fed.letters
        assert fed.answered.count(f"root-{number}") == 1
        return
    assert fed.answered.count(f"root-{number}") == 0
    assert_dead(fed, entry, each, marked(each, number))
    if each.published:
        assert_told(fed, each)


def assert_dead(fed: Fed, entry: str, each: Hostile, came: list[bytes]) -> None:
    """Once, at once, with a short reason, and whole unless it has very many fields."""
    _, line, *kept = fed.letters[entry]
    history = orjson.loads(line)
    assert each.reason in history["reason"]
    assert len(history["reason"]) < 400
    assert history["deliveries"] == 1
    told = [error["TEXT"] for error in fed.errors if error.get("entry") == entry]
    assert told == [f"echo gave up a message: {history['reason']}"]
    if len(came) > MOST_FIELDS:
        assert history["shortened"]["fields"] == len(came) // 2
        assert history["shortened"]["bytes"] == sum(map(len, came))
        assert kept == came[:MOST_FIELDS]
    else:
        assert "shortened" not in history
        assert kept == came


def assert_told(fed: Fed, each: Hostile) -> None:
    """Who published it finds in `errors` why it is no message, and how it is done."""
    start = each.text[:200].decode(errors="replace")
    found = [error["TEXT"] for error in fed.errors if error.get("PAYLOAD") == start]
    assert any("what was published is not a message" in told for told in found)
    assert any(each.reason.split(":")[0] in told for told in found)
    assert all(f"PUBLISH '{fed.echo.names.channel('input')}'" in told for told in found)
    assert all(len(told) < 800 for told in found)


def test_the_run_went_on_and_nothing_was_done_twice(fed: Fed) -> None:
    """The same replica, exact counts, nothing pending, nothing remembered."""
    echo, good = fed.echo, 3
    expected = good + len([each for each in ALL if each.reason == HANDLED])
    assert echo.counter("received") == echo.reply_count() == expected
    assert len(fed.letters) == len([each for each in ALL if each.reason != HANDLED])
    assert echo.pending() == echo.pending(GRADIENTS) == 0
    assert not echo.client.exists(echo.names.memory("echo"))
    assert echo.client.exists(echo.names.alive(fed.replica.consumer))
    assert {orjson.loads(each[1])["by"] for each in fed.letters.values()} == {fed.replica.consumer}
    assert not Path("/tmp/roomgrad-was-unpickled").exists()


def test_there_are_very_many_of_them() -> None:
    """Each under a name of its own."""
    assert len({each.name for each in ALL}) == len(ALL) >= 200


def test_two_entries_are_two_messages(echo: EchoRun) -> None:
    """One ID that is XADDed twice is answered twice; PUBLISHed twice, it is taken once."""
    echo.start(echo_component())
    channel = echo.names.channel("input")
    until(lambda: echo.client.pubsub_numsub(channel)[0][1] == 1)
    text = b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","DATA":[1]}'
    for _ in range(2):
        inject(echo, [b"m", text])
    echo.wait_reply(echo.send(2))
    assert echo.reply_count() == 3
    for _ in range(2):
        echo.client.publish(channel, text)
    until(lambda: echo.reply_count() == 4)
    echo.wait_reply(echo.send(3))
    assert echo.counter("received") == echo.reply_count() == 5


def test_an_answer_counts_once(echo: EchoRun) -> None:
    """A gradient for an unknown ID, and one that comes twice, are stray and end no root."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note=1)
        return message.reply(OUTPUT, message.array)

    replica = echo.start(echo_component(keep, answered=answered))
    first, second = echo.send(1), echo.send(2)
    echo.wait_reply(second)
    for id_ in (first.id, first.id, "unknown"):
        text = {"ID": id_, "ROOT_ID": first.root_id, "TYPE": "DATA/GRADIENT", "DATA": [1.0]}
        echo.add({"m": orjson.dumps(text)}, GRADIENTS)
    until(lambda: len(echo.dead_letters()) == 2)
    reasons = [orjson.loads(letter[b"history"])["reason"] for letter in echo.dead_letters()]
    assert reasons[0].startswith(f"no memory of {first.id}: ")
    assert reasons[1].startswith("no memory of unknown: ")
    assert echo.client.hkeys(echo.names.memory("echo")) == [second.id.encode()]
    assert echo.pending(GRADIENTS) == 0
    assert echo.client.exists(echo.names.alive(replica.consumer))


def test_rubbish_in_an_inbox_ends_nothing(echo: EchoRun) -> None:
    """What is no notice is a dead letter; a notice about an unknown root has no effect."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note=1)
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(keep))
    message = echo.send(1)
    echo.wait_reply(message)
    inbox = echo.names.stream("@echo", "LOG/ERROR")
    for text in (b"no", b"{}", b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD"}', b"[" * 100_000):
        echo.client.xadd(inbox, {"m": text, "ROOT_ID": message.root_id})
    echo.client.xadd(inbox, {"m": b'{"ID":"i","ROOT_ID":"r","TYPE":"LOG/ERROR","X":{"y":[]}}'})
    until(lambda: len(echo.dead_letters()) == 4)
    echo.wait_reply(echo.send(2))
    until(lambda: echo.client.xpending(inbox, "echo")["pending"] == 0)
    assert echo.client.hlen(echo.names.memory("echo")) == 2
    assert len(echo.dead_letters()) == 4
