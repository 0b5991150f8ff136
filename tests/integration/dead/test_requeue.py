"""`roomgrad dead requeue`: a letter becomes one message, for whoever gave it up, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from roomgrad import Component, RuntimeSettings, Stream, System, on
from roomgrad.errors import ServerError
from roomgrad.inspect.dead_letters import Letters, NotRequeued
from roomgrad.redis.server import connect
from roomgrad.testing import wait_for
from tests.integration.conftest import ROOT, Cage, OwnServer
from tests.integration.dead.letters import bury, leave, newest, raising, roomgrad
from tests.integration.parrots import CAGE, FORWARD, HEARD, NUMBERS, PERCH, numbers, parrot, repeat
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def test_a_requeued_message_is_handled_and_its_letter_is_gone(cage: Cage) -> None:
    """As it was, under a new entry id; it rings on its channel."""
    message, entry = bury(cage, 3, 4)
    cage.start(parrot())
    with cage.client.pubsub(ignore_subscribe_messages=True) as ears:
        ears.subscribe(cage.names.channel("cage"))
        ears.get_message(timeout=5)
        ended = roomgrad(cage, "requeue", entry)
        assert ended.returncode == 0, ended.stderr
        assert "its root was given up" in ended.stdout
        assert "1 of 1 dead letter of run" in ended.stdout
        assert (cage.heard(message).array == numbers(6, 8)).all()
        heard = until(lambda: ears.get_message(timeout=0.1))
    ring = json.loads(heard["data"])
    assert (ring["ID"], ring["ROOT_ID"]) == (message.id, message.root_id)
    (_, last), *_ = cage.client.xrevrange(cage.names.stream(*HEARD.key), count=1)
    assert last[b"ID"] == message.id.encode()
    assert not cage.dead()
    assert cage.counter("heard") == 1


BOTH = Stream(CAGE, FORWARD, NUMBERS, ("parrot", "listener"))
TWO = System("two", (BOTH, Stream(PERCH, FORWARD, NUMBERS)), ("parrot", "listener"))


def counting(name: str, function: Any = repeat) -> Component:
    """A component of `TWO` that counts what it hears."""
    handler = on(CAGE, FORWARD, replies=[(PERCH, FORWARD)])(function)
    return Component(name, TWO, RuntimeSettings, [handler])


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_other_groups_of_the_stream_do_not_handle_it_twice(cage: Cage, away: bool) -> None:
    """What was given up by one consumer comes back to it alone, also where the other was away."""
    listening = cage.start(counting("listener"))
    broken = cage.start(counting("parrot", raising), max_deliveries=1)
    message = cage.say(1)
    until(lambda: cage.dead() and cage.counter("heard", "listener") == 1)
    leave(cage, broken)
    if away:
        leave(cage, listening)
    assert Letters(cage.client, cage.names, TWO).requeue(only(cage))
    cage.start(counting("parrot"))
    if away:
        cage.start(counting("listener"))
    wait_for(cage.client, cage.names, Stream(PERCH, FORWARD, NUMBERS), root_id=message.root_id)
    after = cage.say(2)  # behind it in the stream: whoever has handled this is past the other
    key = cage.names.stream(*BOTH.key)
    until(lambda: all(done(cage, group, after.entry) for group in BOTH.consumers))
    until(lambda: all(not each["pending"] for each in cage.client.xinfo_groups(key)))
    assert cage.counter("heard", "parrot") == 2
    assert cage.counter("heard", "listener") == 2
    assert not cage.dead()


def test_a_group_that_was_destroyed_meanwhile_passes_it_over_too(cage: Cage) -> None:
    """It is created again at the beginning of the stream, and finds the mark."""
    listening = cage.start(counting("listener"))
    broken = cage.start(counting("parrot", raising), max_deliveries=1)
    cage.say(1)
    until(lambda: cage.dead() and cage.counter("heard", "listener") == 1)
    leave(cage, listening, broken)
    cage.client.xgroup_destroy(cage.names.stream(*BOTH.key), "listener")
    assert Letters(cage.client, cage.names, TWO).requeue(only(cage))
    cage.start(counting("listener"))
    after = cage.say(2)
    until(lambda: done(cage, "listener", after.entry))
    assert cage.counter("heard", "listener") == 2


def only(cage: Cage) -> Any:
    (letter,) = Letters(cage.client, cage.names).newest_first()
    return letter


def done(cage: Cage, group: str, entry: str) -> bool:
    key = cage.names.done(group, *BOTH.key)
    return cage.client.zscore(key, entry) is not None


def test_many_operators_at_once_make_one_message_of_each_letter(cage: Cage) -> None:
    """Whoever comes later is told that the letter is gone."""
    leave(cage, cage.start(parrot()))
    key = cage.names.stream(*HEARD.key)
    history = json.dumps({"reason": "x", "stream": key, "group": "parrot", "deliveries": 1})
    for number in range(40):
        cage.client.xadd(cage.names.dead(), {"history": history, "ID": f"id-{number}", "m": "{}"})

    def operator(_: int) -> Sequence[str]:
        with connect(cage.url) as client:
            letters = Letters(client, cage.names)
            return [letters.requeue(letter) for letter in list(letters.newest_first())]

    with ThreadPoolExecutor(4) as pool:
        answers = [entry for each in pool.map(operator, range(4)) for entry in each]
    there = [fields[b"ID"] for _, fields in cage.client.xrange(key)]
    assert sorted(there) == sorted(f"id-{number}".encode() for number in range(40))
    assert len(list(filter(None, answers))) == 40
    assert not cage.dead()


def test_two_commands_at_once_requeue_each_letter_once(cage: Cage) -> None:
    """As two people at two terminals would."""
    message, _ = bury(cage, 1)
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: roomgrad(cage, "requeue", "--all"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], ended
    cage.start(parrot())
    cage.heard(message)
    assert cage.client.xlen(cage.names.stream(*HEARD.key)) == 2


def test_an_operator_who_is_killed_leaves_the_letter_or_the_message(own_cage: Cage) -> None:
    """Of each letter exactly one of the two is there, wherever the process died."""
    leave(own_cage, own_cage.start(parrot()))
    key = own_cage.names.stream(*HEARD.key)
    history = json.dumps({"reason": "x", "stream": key, "group": "parrot", "deliveries": 1})
    many = 3000
    with own_cage.client.pipeline(transaction=False) as pipe:
        for number in range(many):
            pipe.xadd(own_cage.names.dead(), {"history": history, "ID": f"id-{number}", "m": "{}"})
        pipe.execute()
    environ = {**os.environ, "REDIS_URL": own_cage.url, "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-m", "roomgrad", "dead", "requeue", "--all"]
    command += ["--run", own_cage.names.run]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    until(lambda: own_cage.client.xlen(key) > 100, timeout_s=30)
    process.kill()
    process.wait()
    until(lambda: own_cage.client.info("clients")["connected_clients"] <= 2)
    moved = [fields[b"ID"] for _, fields in own_cage.client.xrange(key)]
    left = [fields[b"ID"] for fields in own_cage.dead()]
    assert left
    assert sorted(moved + left) == sorted(f"id-{number}".encode() for number in range(many))


def test_a_server_that_dies_keeps_the_letter_or_the_message(
    own_server: OwnServer, own_cage: Cage
) -> None:
    """The append-only file has the whole script, or nothing of it."""
    own_cage.client.config_set("appendfsync", "always")
    message, entry = bury(own_cage, 1)
    letters = Letters(own_cage.client, own_cage.names)
    assert letters.requeue(letters.get(entry))
    own_server.kill()
    own_server.restart()
    with connect(own_server.url) as client:
        found = client.xrange(own_cage.names.stream(*HEARD.key))
        assert [fields[b"ID"] for _, fields in found] == [message.id.encode()] * 2
        assert client.xlen(own_cage.names.dead()) == 0


def test_a_full_server_refuses_and_keeps_the_letter(own_cage: Cage) -> None:
    """Nothing of the script is done."""
    _, entry = bury(own_cage, 1)
    own_cage.client.config_set("maxmemory", "1mb")
    letters = Letters(own_cage.client, own_cage.names)
    with pytest.raises(ServerError, match="stays, the server refuses"):
        letters.requeue(letters.get(entry))
    own_cage.client.config_set("maxmemory", "0")
    assert own_cage.client.xlen(own_cage.names.stream(*HEARD.key)) == 1
    assert newest(own_cage) == entry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": "{other}:cage:DATA/FORWARD"}, "names the stream '{other}"),
        ({"stream": "cage"}, "expected one like"),
        ({"stream": 3}, "expected one like"),
        ({"group": ""}, "which component"),
        ({"shortened": {"bytes": 10**8}}, "only its beginning is left"),
        ({"group": "nobody"}, "nobody has no group"),
        ({"stream": "RUN:attic:DATA/FORWARD"}, "there is no stream"),
        ({"stream": "RUN:counters:parrot"}, "is a hash, expected a stream"),
    ],
)
def test_a_letter_that_leads_nowhere_stays(cage: Cage, change: dict[str, Any], said: str) -> None:
    """With a sentence; no key is made up."""
    cage.start(parrot())
    cage.heard(cage.say(1))
    prefix = f"{{{cage.names.run}}}"
    good = {"reason": "x", "stream": cage.names.stream(*HEARD.key), "group": "parrot"}
    changed = {k: v.replace("RUN", prefix) if isinstance(v, str) else v for k, v in change.items()}
    letter = {"history": json.dumps(good | changed), "m": "{}"}
    entry = cage.client.xadd(cage.names.dead(), letter).decode()
    keys = set(cage.client.keys(cage.names.everything()))
    letters = Letters(cage.client, cage.names)
    with pytest.raises(NotRequeued) as caught:
        letters.requeue(letters.get(entry))
    assert said in str(caught.value)
    alive = {key for key in keys if b":alive:" not in key}
    assert alive <= set(cage.client.keys(cage.names.everything()))
    assert newest(cage) == entry


def test_a_stray_that_is_requeued_ends_as_a_stray_again(cage: Cage) -> None:
    """It is done when it is asked for, and what comes of it is a new letter."""
    first = cage.inject({"ID": "a", "ROOT_ID": "b", "m": '{"ID":"a","ROOT_ID":"b","DATA":"x"}'})
    cage.start(parrot())
    entry = until(lambda: cage.dead() and newest(cage))
    assert roomgrad(cage, "requeue", entry).returncode == 0
    again = until(lambda: newest(cage) if len(cage.dead()) == 1 and newest(cage) != entry else "")
    letters = Letters(cage.client, cage.names)
    assert letters.get(again).history["entry"] != first
    assert letters.get(again).pairs == [
        (b"for", b"parrot"),
        (b"ID", b"a"),
        (b"ROOT_ID", b"b"),
        (b"m", b'{"ID":"a","ROOT_ID":"b","DATA":"x"}'),
    ]
