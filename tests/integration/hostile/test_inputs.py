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
from tests.integration.conftest import Cage, make_cage
from tests.integration.hostile.inputs import ALL, ANSWERED, ROOT, Hostile
from tests.integration.parrots import ANSWERED as GRADIENTS
from tests.integration.parrots import FORWARD, HEARD, PERCH, SAID, parrot, repeat
from tests.waiting import until

PUBLISHED = [each for each in ALL if each.published and each.reason != ANSWERED]


@dataclass
class Fed:
    """A run after all of it."""

    cage: Cage
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
    return message.reply(PERCH, message.array, type=FORWARD)


def inject(cage: Cage, fields: list[bytes]) -> str:
    """XADD as redis-cli does it: names may come twice."""
    entry = cage.client.execute_command("XADD", cage.names.stream(*HEARD.key), "*", *fields)
    return str(entry.decode())


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("redis8", marks=pytest.mark.docker)]
)
def fed(request: pytest.FixtureRequest) -> Iterator[Fed]:
    url = str(request.getfixturevalue(f"{request.param}_url"))
    with structlog.testing.capture_logs(), contextlib.contextmanager(make_cage)(url) as cage:
        replica = cage.start(parrot(repeat, answered=answered), history_entries=5000)
        channel = cage.names.channel("cage")
        until(lambda: cage.client.pubsub_numsub(channel)[0][1] == 1)
        cage.heard(cage.say(1))
        entries = {}
        for number, each in enumerate(ALL):
            entries[each.name] = inject(cage, marked(each, number))
        for each in PUBLISHED:
            cage.client.publish(channel, each.text)
        cage.heard(cage.say(2), timeout_s=40)
        until(lambda: told(cage) >= len({each.text for each in PUBLISHED}), timeout_s=20)
        cage.heard(cage.say(3))
        yield look(Fed(cage, replica, entries))


def marked(each: Hostile, number: int) -> list[bytes]:
    """Its fields, with a root of its own."""
    return [part.replace(ROOT, b"root-%d" % number) for part in each.fields]


def told(cage: Cage) -> int:
    found = cage.client.zrange(cage.names.taken(), 0, -1)
    return len([token for token in found if token.startswith(b"refused:")])


def look(fed: Fed) -> Fed:
    cage = fed.cage
    # by a script, so that names that come twice in an entry are not lost on the way
    text = "return redis.call('XRANGE', KEYS[1], '-', '+')"
    found: Any = cage.client.eval(text, 1, cage.names.dead())
    fed.letters = {orjson.loads(letter[1])["entry"]: letter for _, letter in found}
    said = cage.client.xrange(cage.names.stream(*SAID.key))
    fed.answered = [orjson.loads(fields[b"m"])["ROOT_ID"] for _, fields in said]
    told = cage.client.xrange(cage.names.stream(*ERROR_STREAM.key))
    fed.errors = [orjson.loads(fields[b"m"]) for _, fields in told]
    return fed


@pytest.mark.parametrize("each", ALL, ids=[each.name[:40] for each in ALL])
def test_it_ends_where_it_should(fed: Fed, each: Hostile) -> None:
    """As a dead letter with its reason, as an answer in `errors`, or answered as any other."""
    entry, number = fed.entries[each.name], ALL.index(each)
    if each.reason == ANSWERED:
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
    assert told == [f"parrot gave up a message: {history['reason']}"]
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
    assert any("what was published is no message" in told for told in found)
    assert any(each.reason.split(":")[0] in told for told in found)
    assert all(f"PUBLISH '{fed.cage.names.channel('cage')}'" in told for told in found)
    assert all(len(told) < 800 for told in found)


def test_the_run_went_on_and_nothing_was_done_twice(fed: Fed) -> None:
    """The same replica, exact counts, nothing pending, nothing remembered."""
    cage, good = fed.cage, 3
    expected = good + len([each for each in ALL if each.reason == ANSWERED])
    assert cage.counter("heard") == cage.said() == expected
    assert len(fed.letters) == len([each for each in ALL if each.reason != ANSWERED])
    assert cage.pending() == cage.pending(GRADIENTS) == 0
    assert not cage.client.exists(cage.names.memory("parrot"))
    assert cage.client.exists(cage.names.alive(fed.replica.consumer))
    assert {orjson.loads(each[1])["by"] for each in fed.letters.values()} == {fed.replica.consumer}
    assert not Path("/tmp/roomgrad-was-unpickled").exists()


def test_there_are_very_many_of_them() -> None:
    """Each under a name of its own."""
    assert len({each.name for each in ALL}) == len(ALL) >= 200


def test_two_entries_are_two_messages(cage: Cage) -> None:
    """One ID that is XADDed twice is answered twice; PUBLISHed twice, it is taken once."""
    cage.start(parrot())
    channel = cage.names.channel("cage")
    until(lambda: cage.client.pubsub_numsub(channel)[0][1] == 1)
    text = b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD","DATA":[1]}'
    for _ in range(2):
        inject(cage, [b"m", text])
    cage.heard(cage.say(2))
    assert cage.said() == 3
    for _ in range(2):
        cage.client.publish(channel, text)
    until(lambda: cage.said() == 4)
    cage.heard(cage.say(3))
    assert cage.counter("heard") == cage.said() == 5


def test_an_answer_counts_once(cage: Cage) -> None:
    """A gradient for an unknown ID, and one that comes twice, are stray and end no root."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note=1)
        return message.reply(PERCH, message.array)

    replica = cage.start(parrot(keep, answered=answered))
    first, second = cage.say(1), cage.say(2)
    cage.heard(second)
    for id_ in (first.id, first.id, "unknown"):
        text = {"ID": id_, "ROOT_ID": first.root_id, "TYPE": "DATA/GRADIENT", "DATA": [1.0]}
        cage.inject({"m": orjson.dumps(text)}, GRADIENTS)
    until(lambda: len(cage.dead()) == 2)
    reasons = [orjson.loads(letter[b"history"])["reason"] for letter in cage.dead()]
    assert reasons[0].startswith(f"no memory of {first.id}: ")
    assert reasons[1].startswith("no memory of unknown: ")
    assert cage.client.hkeys(cage.names.memory("parrot")) == [second.id.encode()]
    assert cage.pending(GRADIENTS) == 0
    assert cage.client.exists(cage.names.alive(replica.consumer))


def test_rubbish_in_an_inbox_ends_nothing(cage: Cage) -> None:
    """What is no notice is a dead letter; a notice about an unknown root has no effect."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note=1)
        return message.reply(PERCH, message.array)

    cage.start(parrot(keep))
    message = cage.say(1)
    cage.heard(message)
    inbox = cage.names.stream("@parrot", "LOG/ERROR")
    for text in (b"no", b"{}", b'{"ID":"i","ROOT_ID":"r","TYPE":"DATA/FORWARD"}', b"[" * 100_000):
        cage.client.xadd(inbox, {"m": text, "ROOT_ID": message.root_id})
    cage.client.xadd(inbox, {"m": b'{"ID":"i","ROOT_ID":"r","TYPE":"LOG/ERROR","X":{"y":[]}}'})
    until(lambda: len(cage.dead()) == 4)
    cage.heard(cage.say(2))
    until(lambda: cage.client.xpending(inbox, "parrot")["pending"] == 0)
    assert cage.client.hlen(cage.names.memory("parrot")) == 2
    assert len(cage.dead()) == 4
