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
from roomgrad.errors import NotRequeued, ServerError
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.redis.server import connect
from tests.integration.conftest import ROOT, EchoRun, OwnServer
from tests.integration.dead.dead_letters import make_dead_letter, newest, raising, roomgrad
from tests.integration.echo import (
    FORWARD,
    INPUT,
    NUMBERS,
    OUTPUT,
    REQUESTS,
    echo_component,
    numbers,
    repeat,
)
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


def test_a_requeued_message_is_handled_and_its_letter_is_gone(echo: EchoRun) -> None:
    """As it was, under a new entry id; it rings on its channel."""
    message, entry = make_dead_letter(echo, 3, 4)
    echo.start(echo_component())
    with echo.client.pubsub(ignore_subscribe_messages=True) as ears:
        ears.subscribe(echo.names.channel("input"))
        ears.get_message(timeout=5)
        ended = roomgrad(echo, "requeue", entry)
        assert ended.returncode == 0, ended.stderr
        assert "its root was given up" in ended.stdout
        assert "1 of 1 dead letter of run" in ended.stdout
        assert (echo.wait_reply(message).array == numbers(6, 8)).all()
        heard = until(lambda: ears.get_message(timeout=0.1))
    ring = json.loads(heard["data"])
    assert (ring["ID"], ring["ROOT_ID"]) == (message.id, message.root_id)
    (_, last), *_ = echo.client.xrevrange(echo.names.stream(*REQUESTS.key), count=1)
    assert last[b"ID"] == message.id.encode()
    assert not echo.dead_letters()
    assert echo.counter("received") == 1


BOTH = Stream(INPUT, FORWARD, NUMBERS, ("echo", "listener"))
TWO = System("two", (BOTH, Stream(OUTPUT, FORWARD, NUMBERS)), ("echo", "listener"))


def counting(name: str, function: Any = repeat) -> Component:
    """A component of `TWO` that counts what it hears."""
    handler = on(INPUT, FORWARD, replies=[(OUTPUT, FORWARD)])(function)
    return Component(name, TWO, RuntimeSettings, [handler])


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_other_groups_of_the_stream_do_not_handle_it_twice(echo: EchoRun, away: bool) -> None:
    """What was given up by one consumer comes back to it alone, also where the other was away."""
    listening = echo.start(counting("listener"))
    broken = echo.start(counting("echo", raising), max_deliveries=1)
    message = echo.send(1)
    until(lambda: echo.dead_letters() and echo.counter("received", "listener") == 1)
    echo.stop(broken)
    if away:
        echo.stop(listening)
    assert DeadLetters(echo.client, echo.names, TWO).requeue(only(echo))
    echo.start(counting("echo"))
    if away:
        echo.start(counting("listener"))
    echo.wait_for(Stream(OUTPUT, FORWARD, NUMBERS), root_id=message.root_id)
    after = echo.send(2)  # behind it in the stream: whoever has handled this is past the other
    key = echo.names.stream(*BOTH.key)
    until(lambda: all(done(echo, group, after.entry) for group in BOTH.consumers))
    until(lambda: all(not each["pending"] for each in echo.client.xinfo_groups(key)))
    assert echo.counter("received", "echo") == 2
    assert echo.counter("received", "listener") == 2
    assert not echo.dead_letters()


def test_a_group_that_was_destroyed_meanwhile_passes_it_over_too(echo: EchoRun) -> None:
    """It is created again at the beginning of the stream, and finds the mark."""
    listening = echo.start(counting("listener"))
    broken = echo.start(counting("echo", raising), max_deliveries=1)
    echo.send(1)
    until(lambda: echo.dead_letters() and echo.counter("received", "listener") == 1)
    echo.stop(listening, broken)
    echo.client.xgroup_destroy(echo.names.stream(*BOTH.key), "listener")
    assert DeadLetters(echo.client, echo.names, TWO).requeue(only(echo))
    echo.start(counting("listener"))
    after = echo.send(2)
    until(lambda: done(echo, "listener", after.entry))
    assert echo.counter("received", "listener") == 2


def only(echo: EchoRun) -> Any:
    (letter,) = DeadLetters(echo.client, echo.names).newest_first()
    return letter


def done(echo: EchoRun, group: str, entry: str) -> bool:
    key = echo.names.done(group, *BOTH.key)
    return echo.client.zscore(key, entry) is not None


def test_many_operators_at_once_make_one_message_of_each_letter(echo: EchoRun) -> None:
    """Whoever comes later is told that the letter is gone."""
    echo.stop(echo.start(echo_component()))
    key = echo.names.stream(*REQUESTS.key)
    history = json.dumps({"reason": "x", "stream": key, "group": "echo", "deliveries": 1})
    for number in range(40):
        echo.client.xadd(echo.names.dead(), {"history": history, "ID": f"id-{number}", "m": "{}"})

    def operator(_: int) -> Sequence[str]:
        with connect(echo.url) as client:
            letters = DeadLetters(client, echo.names)
            return [letters.requeue(letter) for letter in list(letters.newest_first())]

    with ThreadPoolExecutor(4) as pool:
        answers = [entry for each in pool.map(operator, range(4)) for entry in each]
    there = [fields[b"ID"] for _, fields in echo.client.xrange(key)]
    assert sorted(there) == sorted(f"id-{number}".encode() for number in range(40))
    assert len(list(filter(None, answers))) == 40
    assert not echo.dead_letters()


def test_two_commands_at_once_requeue_each_letter_once(echo: EchoRun) -> None:
    """As two people at two terminals would."""
    message, _ = make_dead_letter(echo, 1)
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: roomgrad(echo, "requeue", "--all"), range(2)))
    assert [each.returncode for each in ended] == [0, 0], ended
    echo.start(echo_component())
    echo.wait_reply(message)
    assert echo.client.xlen(echo.names.stream(*REQUESTS.key)) == 2


def test_an_operator_who_is_killed_leaves_the_letter_or_the_message(own_echo: EchoRun) -> None:
    """Of each letter exactly one of the two is there, wherever the process died."""
    own_echo.stop(own_echo.start(echo_component()))
    key = own_echo.names.stream(*REQUESTS.key)
    history = json.dumps({"reason": "x", "stream": key, "group": "echo", "deliveries": 1})
    many = 3000
    with own_echo.client.pipeline(transaction=False) as pipe:
        for number in range(many):
            pipe.xadd(own_echo.names.dead(), {"history": history, "ID": f"id-{number}", "m": "{}"})
        pipe.execute()
    environ = {**os.environ, "REDIS_URL": own_echo.url, "PYTHONPATH": str(ROOT / "shared")}
    command = [sys.executable, "-m", "roomgrad", "dead", "requeue", "--all"]
    command += ["--run", own_echo.names.run]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
    until(lambda: own_echo.client.xlen(key) > 100)
    process.kill()
    process.wait()
    until(lambda: own_echo.client.info("clients")["connected_clients"] <= 2)
    moved = [fields[b"ID"] for _, fields in own_echo.client.xrange(key)]
    left = [fields[b"ID"] for fields in own_echo.dead_letters()]
    assert left
    assert sorted(moved + left) == sorted(f"id-{number}".encode() for number in range(many))


def test_a_server_that_dies_keeps_the_letter_or_the_message(
    own_server: OwnServer, own_echo: EchoRun
) -> None:
    """The append-only file has the whole script, or nothing of it."""
    own_echo.client.config_set("appendfsync", "always")
    message, entry = make_dead_letter(own_echo, 1)
    letters = DeadLetters(own_echo.client, own_echo.names)
    assert letters.requeue(letters.get(entry))
    own_server.kill()
    own_server.restart()
    with connect(own_server.url) as client:
        found = client.xrange(own_echo.names.stream(*REQUESTS.key))
        assert [fields[b"ID"] for _, fields in found] == [message.id.encode()] * 2
        assert client.xlen(own_echo.names.dead()) == 0


def test_a_full_server_refuses_and_keeps_the_letter(own_echo: EchoRun) -> None:
    """Nothing of the script is done."""
    _, entry = make_dead_letter(own_echo, 1)
    own_echo.client.config_set("maxmemory", "1mb")
    letters = DeadLetters(own_echo.client, own_echo.names)
    with pytest.raises(ServerError, match="stays, the server refuses"):
        letters.requeue(letters.get(entry))
    own_echo.client.config_set("maxmemory", "0")
    assert own_echo.client.xlen(own_echo.names.stream(*REQUESTS.key)) == 1
    assert newest(own_echo) == entry


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": "{other}:input:DATA/FORWARD"}, "names the stream '{other}"),
        ({"stream": "input"}, "expected one like"),
        ({"stream": 3}, "expected one like"),
        ({"group": ""}, "which component"),
        ({"shortened": {"bytes": 10**8}}, "only its beginning is left"),
        ({"group": "nobody"}, "nobody has no group"),
        ({"stream": "RUN:attic:DATA/FORWARD"}, "there is no stream"),
        ({"stream": "RUN:counters:echo"}, "is a hash, expected a stream"),
    ],
)
def test_a_letter_that_leads_nowhere_stays(
    echo: EchoRun, change: dict[str, Any], said: str
) -> None:
    """With a sentence; no key is made up."""
    echo.start(echo_component())
    echo.wait_reply(echo.send(1))
    prefix = f"{{{echo.names.run}}}"
    good = {"reason": "x", "stream": echo.names.stream(*REQUESTS.key), "group": "echo"}
    changed = {k: v.replace("RUN", prefix) if isinstance(v, str) else v for k, v in change.items()}
    letter = {"history": json.dumps(good | changed), "m": "{}"}
    entry = echo.client.xadd(echo.names.dead(), letter).decode()
    keys = set(echo.client.keys(echo.names.everything()))
    letters = DeadLetters(echo.client, echo.names)
    with pytest.raises(NotRequeued) as caught:
        letters.requeue(letters.get(entry))
    assert said in str(caught.value)
    alive = {key for key in keys if b":alive:" not in key}
    assert alive <= set(echo.client.keys(echo.names.everything()))
    assert newest(echo) == entry


def test_a_stray_that_is_requeued_ends_as_a_stray_again(echo: EchoRun) -> None:
    """It is done when it is asked for, and what comes of it is a new letter."""
    first = echo.add({"ID": "a", "ROOT_ID": "b", "m": '{"ID":"a","ROOT_ID":"b","DATA":"x"}'})
    echo.start(echo_component())
    entry = until(lambda: echo.dead_letters() and newest(echo))
    assert roomgrad(echo, "requeue", entry).returncode == 0
    again = until(
        lambda: newest(echo) if len(echo.dead_letters()) == 1 and newest(echo) != entry else ""
    )
    letters = DeadLetters(echo.client, echo.names)
    assert letters.get(again).history["entry"] != first
    assert letters.get(again).pairs == [
        (b"for", b"echo"),
        (b"ID", b"a"),
        (b"ROOT_ID", b"b"),
        (b"m", b'{"ID":"a","ROOT_ID":"b","DATA":"x"}'),
    ]
