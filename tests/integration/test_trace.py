"""`roomgrad trace`: the way of a root, with real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from roomgrad import Context, Message
from roomgrad.runtime.handling_times import Times
from tests.integration.conftest import ROOT, Cage
from tests.integration.dead.letters import bury
from tests.integration.parrots import CAGE, HEARD, SAID, listener, parrot, repeat
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

HANDLER_MS = 20


def trace(cage: Cage, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, on the server and the run of a test."""
    environ = {**os.environ, "REDIS_URL": cage.url, "RUN": cage.names.run}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "roomgrad", "trace", *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )


def traced(cage: Cage, *words: str) -> dict[str, Any]:
    """What it found, for programs."""
    ended = trace(cage, *words, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def slow(message: Message, context: Context) -> Message:
    threading.Event().wait(HANDLER_MS / 1000)
    return repeat(message, context)


def hear(message: Message, context: Context) -> None:
    context.counters.add("heard")


def hear_all(cage: Cage, count: int) -> None:
    """Until the listener has committed so many."""
    until(lambda: cage.counter("heard", "listener") == count)


def test_a_finished_root_is_traced_hop_by_hop(cage: Cage) -> None:
    """Who had it, how long it waited, how long it was computed on, and that it is done."""
    cage.start(parrot(slow))
    cage.start(listener(hear))
    message = cage.say(1, 2)
    hear_all(cage, 1)
    found = traced(cage, message.root_id)
    assert (found["state"], found["run"]) == ("finished", cage.names.run)
    first, second = found["hops"]
    assert [first["entry"], first["from"], first["to"]] == [message.entry, "client", "parrot"]
    assert [second["room"], second["from"], second["to"]] == ["perch", "parrot", "listener"]
    assert first["handled_us"] >= HANDLER_MS * 1000
    parts = [first[f"{name}_us"] for name in ("waited", "decoded", "handled", "committed")]
    assert sum(parts) <= first["took_us"] + 1 <= second["sent_us"] - first["sent_us"] + 2
    assert first["about"], "a client writes no times, so its sending is known in ms"
    assert second["exact"], "clocks of one machine agree"
    assert (second["state"], second["took_us"]) == ("done", None), "it answered nothing"
    assert (found["forward"]["hops"], found["sum"]["handled"]) == (1, first["handled_us"])
    shown = trace(cage, message.root_id)
    assert shown.returncode == 0, shown.stderr
    assert f"Root {message.root_id} of run {cage.names.run}: finished after" in shown.stdout
    row = next(line for line in shown.stdout.splitlines() if "parrot" in line)
    assert row.split()[1:5] == ["cage", "DATA/FORWARD", "client", "parrot"]


def test_without_an_id_the_newest_finished_root_is_traced(cage: Cage) -> None:
    """Though a newer one is open."""
    first = cage.start(parrot())
    cage.start(listener(hear))
    cage.say(1)
    newest = cage.say(2)
    hear_all(cage, 2)
    first.stop()
    until(lambda: not cage.client.exists(cage.names.alive(first.consumer)))
    cage.say(3)
    assert traced(cage)["root_id"] == newest.root_id


def test_a_root_that_nobody_reads_is_open(cage: Cage) -> None:
    """It says who is waited for, since when, and that it does not run."""
    cage.start(listener(hear))
    message = cage.say(1)
    found = traced(cage, message.root_id)
    assert found["state"] == "open"
    assert [(hop["to"], hop["state"]) for hop in found["hops"]] == [("parrot", "waiting")]
    shown = trace(cage, message.root_id).stdout
    assert f"cage DATA/FORWARD {message.entry} waits for parrot since" in shown
    assert "which does not run" in shown
    assert "no finished root" in trace(cage).stderr


def test_a_root_in_somebodys_hands_is_open(cage: Cage) -> None:
    """It says in whose, since when, and how often it was delivered."""
    entered, leave = threading.Event(), threading.Event()

    def wait(message: Message, context: Context) -> Message:
        entered.set()
        leave.wait(30)
        return repeat(message, context)

    replica = cage.start(parrot(wait))
    message = cage.say(1)
    assert entered.wait(10)
    try:
        found, shown = traced(cage, message.root_id), trace(cage, message.root_id).stdout
    finally:
        leave.set()
    (hop,) = found["hops"]
    assert (found["state"], hop["state"]) == ("open", "in hand")
    assert hop["held"]["consumer"] == replica.consumer
    assert hop["held"]["deliveries"] == 1
    assert hop["held"]["since_us"] >= hop["sent_us"] - 2000  # two roundings to ms
    said = f"cage DATA/FORWARD {message.entry} is in the hands of {replica.consumer}, since"
    assert said in shown.replace("\n", " ")


def test_a_dead_root_says_why(cage: Cage) -> None:
    """With the letter that holds the message."""
    message, letter = bury(cage, 1)
    found = traced(cage, message.root_id)
    assert found["state"] == "dead"
    assert found["hops"][0]["state"] == "dead"
    assert found["dead"][0]["letter"] == letter
    shown = trace(cage, message.root_id).stdout.replace("\n", " ")
    assert f"{message.entry} was given up by parrot: RuntimeError: no such word" in shown
    assert f"roomgrad dead show {letter} --run {cage.names.run}" in shown


def test_a_root_that_only_memory_knows_is_open(cage: Cage) -> None:
    """No message is under way, but somebody waits for something else."""

    def remember(message: Message, context: Context) -> None:
        context.memory.put(message.id, heard=1)

    cage.start(parrot(remember))
    message = cage.say(1)
    until(lambda: cage.client.hexists(cage.names.memory("parrot"), message.id))
    found = traced(cage, message.root_id)
    assert (found["state"], found["remembered_by"]) == ("remembered", ["parrot"])
    assert "no finished root" in trace(cage).stderr
    assert "It still stands in the memory of parrot." in trace(cage, message.root_id).stdout


def test_entries_without_times_are_traced_with_what_they_have(cage: Cage) -> None:
    """By their senders and the server's clock, in whole milliseconds."""
    cage.start(parrot(slow), trace_times=False)
    cage.start(listener(hear), trace_times=False)
    message = cage.say(1)
    hear_all(cage, 1)
    first, second = traced(cage, message.root_id)["hops"]
    assert (first["to"], first["state"], second["state"]) == ("parrot", "done", "done")
    assert first["took_us"] >= HANDLER_MS * 1000
    assert first["took_us"] % 1000 == 0
    assert first["handled_us"] is None
    shown = trace(cage, message.root_id).stdout.replace("\n", " ")
    assert "writes no times (setting trace_times)" in shown


def test_what_opens_the_next_root_ends_the_last_hop_of_this_one(cage: Cage) -> None:
    """As the trainer opens a batch when the gradient of another is home."""

    def open_another(message: Message, context: Context) -> Message | None:
        context.counters.add("heard")
        return Message.open(CAGE, message.array * 2) if message.array[0] < 4 else None

    cage.start(parrot(open_another))
    message = cage.say(1)
    until(lambda: cage.counter("heard") == 3)
    (hop,) = traced(cage, message.root_id)["hops"]
    assert hop["took_us"] is not None
    assert hop["replies"][0][:2] == ["cage", "DATA/FORWARD"]


def test_an_unknown_root_is_told_how_far_back_one_can_look(cage: Cage) -> None:
    """And what else can be traced."""
    cage.start(parrot())
    cage.say(1)
    ended = trace(cage, "nobody")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    for part in ("no message of root 'nobody'", "newest 1,000", "roomgrad trace --run"):
        assert part in ended.stderr


def test_an_unknown_run_is_told_which_there_are(cage: Cage) -> None:
    """A wrong setting, as everywhere."""
    cage.start(parrot())
    ended = trace(cage, "--run", f"{cage.names.run}x")
    assert ended.returncode == 2
    assert f"did you mean {cage.names.run}?" in ended.stderr


def test_what_strangers_wrote_does_no_harm(cage: Cage) -> None:
    """Entries without m, with broken m, with broken times, with huge fields, and a foreign key."""
    cage.start(parrot())
    message = cage.say(1)
    cage.heard(message)
    for fields in (
        {"hello": "world"},
        {"m": "{", "ROOT_ID": message.root_id},
        {"m": json.dumps({"ROOT_ID": [message.root_id]})},
        {"m": json.dumps({"ROOT_ID": message.root_id, "SENT_BY": 7}), "times": "yesterday"},
        {"m": json.dumps({"x": "\x1b[31m" * 900, "ROOT_ID": message.root_id})},
        {"ROOT_ID": message.root_id, "times": f"{message.entry} 1 2 3 4", "m": "[1]"},
    ):
        cage.inject(fields, SAID)
    cage.client.set(cage.names.stream("cage", "odd"), "no stream")
    shown = trace(cage, message.root_id)
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert traced(cage, message.root_id)["hops"][0]["to"] == "parrot"


def test_a_message_that_came_through_the_gateway_says_so(cage: Cage) -> None:
    """Its entry names the connection; a client that stands in answers by its own group."""
    cage.start(listener(hear))
    key = cage.names.stream(*HEARD.key)
    cage.client.xgroup_destroy(key, "parrot")
    cage.client.xgroup_create(key, "parrot@gateway", "0")
    body = {"ID": "a", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [1]}
    asked = cage.inject({"m": json.dumps({**body, "SENT_BY": "anna"}), "client": "12 anna"})
    said = {"m": json.dumps({**body, "SENT_BY": "parrot", "ID": "b"}), "client": "7 parrot"}
    cage.client.xadd(cage.names.stream(*SAID.key), said, id=f"{int(asked.split('-')[0]) + 5}-0")
    hear_all(cage, 1)
    first, second = traced(cage, "r")["hops"]
    assert (first["from"], first["client"], first["to"]) == ("anna", "12 anna", "parrot")
    assert (first["took_us"], second["to"], second["state"]) == (5000, "listener", "done")
    assert "anna (gateway)" in trace(cage, "r").stdout


def test_each_entry_says_when_the_one_before_was_handled(cage: Cage) -> None:
    """In an order that cannot be otherwise; arrays and IDs are where they were."""
    cage.start(parrot(slow))
    message = cage.say(*range(20))
    assert cage.heard(message).array[19] == 38
    _, fields = cage.client.xrange(cage.names.stream(*SAID.key))[0]
    assert list(fields) == [b"ID", b"ROOT_ID", b"m", b"times", b"DATA"]
    times = Times.read(fields[b"times"])
    assert times is not None
    assert times.answers == message.entry
    assert 0 <= times.began <= times.ended - HANDLER_MS * 1000 <= times.sent - HANDLER_MS * 1000
    _, fields = cage.client.xrange(cage.names.stream(*HEARD.key))[0]
    assert b"times" not in fields, "who only sends has nothing to tell"
