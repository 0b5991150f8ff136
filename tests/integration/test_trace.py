"""`roomgrad trace`: the way of a root, with real servers."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

import pytest

from roomgrad import Context, Message
from roomgrad.runtime.handling_times import Times
from tests.integration.conftest import EchoRun
from tests.integration.dead.dead_letters import make_dead_letter
from tests.integration.echo import INPUT, REPLIES, REQUESTS, echo_component, listener, repeat
from tests.roomgrad_command import roomgrad
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

HANDLER_MS = 20


def trace(echo: EchoRun, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the server and the run of a test."""
    environ = {"REDIS_URL": echo.url, "RUN": echo.names.run}
    return roomgrad("trace", *words, environ=environ)


def traced(echo: EchoRun, *words: str) -> dict[str, Any]:
    """What it found, for programs."""
    ended = trace(echo, *words, "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def slow(message: Message, context: Context) -> Message:
    threading.Event().wait(HANDLER_MS / 1000)
    return repeat(message, context)


def hear(message: Message, context: Context) -> None:
    context.counters.add("received")


def hear_all(echo: EchoRun, count: int) -> None:
    """Until the listener has committed so many."""
    until(lambda: echo.counter("received", "listener") == count)


def test_a_finished_root_is_traced_hop_by_hop(echo: EchoRun) -> None:
    """Who had it, how long it waited, how long it was computed on, and that it is done."""
    echo.start(echo_component(slow))
    echo.start(listener(hear))
    message = echo.send(1, 2)
    hear_all(echo, 1)
    found = traced(echo, message.root_id)
    assert (found["state"], found["run"]) == ("finished", echo.names.run)
    first, second = found["hops"]
    assert [first["entry"], first["from"], first["to"]] == [message.entry, "client", "echo"]
    assert [second["room"], second["from"], second["to"]] == ["output", "echo", "listener"]
    assert first["handled_us"] >= HANDLER_MS * 1000
    parts = [first[f"{name}_us"] for name in ("waited", "decoded", "handled", "committed")]
    assert sum(parts) <= first["took_us"] + 1 <= second["sent_us"] - first["sent_us"] + 2
    assert first["about"], "a client writes no times, so its sending is known in ms"
    assert second["exact"], "clocks of one machine agree"
    assert (second["state"], second["took_us"]) == ("done", None), "it answered nothing"
    assert (found["forward"]["hops"], found["sum"]["handled"]) == (1, first["handled_us"])
    shown = trace(echo, message.root_id)
    assert shown.returncode == 0, shown.stderr
    assert f"Root {message.root_id} of run {echo.names.run}: finished after" in shown.stdout
    row = next(line for line in shown.stdout.splitlines() if "echo" in line)
    assert row.split()[1:5] == ["input", "DATA/FORWARD", "client", "echo"]


def test_without_an_id_the_newest_finished_root_is_traced(echo: EchoRun) -> None:
    """Though a newer one is open."""
    first = echo.start(echo_component())
    echo.start(listener(hear))
    echo.send(1)
    newest = echo.send(2)
    hear_all(echo, 2)
    first.stop()
    until(lambda: not echo.client.exists(echo.names.alive(first.consumer)))
    echo.send(3)
    assert traced(echo)["root_id"] == newest.root_id


def test_a_root_that_nobody_reads_is_open(echo: EchoRun) -> None:
    """It says who is waited for, since when, and that it does not run."""
    echo.start(listener(hear))
    message = echo.send(1)
    found = traced(echo, message.root_id)
    assert found["state"] == "open"
    assert [(hop["to"], hop["state"]) for hop in found["hops"]] == [("echo", "waiting")]
    shown = trace(echo, message.root_id).stdout
    assert f"input DATA/FORWARD {message.entry} has waited for echo for" in shown
    assert "which does not run" in shown
    assert "no finished root" in trace(echo).stderr


def test_a_root_in_somebodys_hands_is_open(echo: EchoRun) -> None:
    """It says in whose, since when, and how often it was delivered."""
    entered, leave = threading.Event(), threading.Event()

    def wait(message: Message, context: Context) -> Message:
        entered.set()
        leave.wait(30)
        return repeat(message, context)

    replica = echo.start(echo_component(wait))
    message = echo.send(1)
    assert entered.wait(60)
    try:
        found, shown = traced(echo, message.root_id), trace(echo, message.root_id).stdout
    finally:
        leave.set()
    (hop,) = found["hops"]
    assert (found["state"], hop["state"]) == ("open", "pending")
    assert hop["held"]["consumer"] == replica.consumer
    assert hop["held"]["deliveries"] == 1
    assert hop["held"]["since_us"] >= hop["sent_us"]
    said = f"input DATA/FORWARD {message.entry} has been pending at {replica.consumer} for"
    assert said in shown.replace("\n", " ")


def test_a_dead_root_says_why(echo: EchoRun) -> None:
    """With the letter that holds the message."""
    message, letter = make_dead_letter(echo, 1)
    found = traced(echo, message.root_id)
    assert found["state"] == "dead"
    assert found["hops"][0]["state"] == "dead"
    assert found["dead"][0]["letter"] == letter
    shown = trace(echo, message.root_id).stdout.replace("\n", " ")
    assert f"{message.entry} was given up by echo: RuntimeError: no such word" in shown
    assert f"roomgrad dead show {letter} --run {echo.names.run}" in shown


def test_a_root_that_only_memory_knows_is_open(echo: EchoRun) -> None:
    """No message is under way, but somebody waits for something else."""

    def remember(message: Message, context: Context) -> None:
        context.memory.put(message.id, heard=1)

    echo.start(echo_component(remember))
    message = echo.send(1)
    until(lambda: echo.client.hexists(echo.names.memory("echo"), message.id))
    found = traced(echo, message.root_id)
    assert (found["state"], found["remembered_by"]) == ("remembered", ["echo"])
    assert "no finished root" in trace(echo).stderr
    assert "It is still in the memory of echo." in trace(echo, message.root_id).stdout


def test_entries_without_times_are_traced_with_what_they_have(echo: EchoRun) -> None:
    """By their senders and the server's clock, in whole milliseconds."""
    echo.start(echo_component(slow), trace_times=False)
    echo.start(listener(hear), trace_times=False)
    message = echo.send(1)
    hear_all(echo, 1)
    first, second = traced(echo, message.root_id)["hops"]
    assert (first["to"], first["state"], second["state"]) == ("echo", "done", "done")
    assert first["took_us"] >= HANDLER_MS * 1000
    assert first["took_us"] % 1000 == 0
    assert first["handled_us"] is None
    shown = trace(echo, message.root_id).stdout.replace("\n", " ")
    assert "records no times (setting trace_times)" in shown


def test_what_opens_the_next_root_ends_the_last_hop_of_this_one(echo: EchoRun) -> None:
    """As the trainer opens a batch when the gradient of another is home."""

    def open_another(message: Message, context: Context) -> Message | None:
        context.counters.add("received")
        return Message.open(INPUT, message.array * 2) if message.array[0] < 4 else None

    echo.start(echo_component(open_another))
    message = echo.send(1)
    until(lambda: echo.counter("received") == 3)
    (hop,) = traced(echo, message.root_id)["hops"]
    assert hop["took_us"] is not None
    assert hop["replies"][0][:2] == ["input", "DATA/FORWARD"]


def test_an_unknown_root_is_told_how_far_back_one_can_look(echo: EchoRun) -> None:
    """And what else can be traced."""
    echo.start(echo_component())
    echo.send(1)
    ended = trace(echo, "nobody")
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    for part in ("no message of root 'nobody'", "newest 1,000", "roomgrad trace --run"):
        assert part in ended.stderr


def test_an_unknown_run_is_told_which_there_are(echo: EchoRun) -> None:
    """A wrong setting, as everywhere."""
    echo.start(echo_component())
    ended = trace(echo, "--run", f"{echo.names.run}x")
    assert ended.returncode == 2
    assert f"did you mean {echo.names.run}?" in ended.stderr


def test_what_strangers_wrote_does_no_harm(echo: EchoRun) -> None:
    """Entries without m, with broken m, with broken times, with huge fields, and a foreign key."""
    echo.start(echo_component())
    message = echo.send(1)
    echo.wait_reply(message)
    for fields in (
        {"hello": "world"},
        {"m": "{", "ROOT_ID": message.root_id},
        {"m": json.dumps({"ROOT_ID": [message.root_id]})},
        {"m": json.dumps({"ROOT_ID": message.root_id, "SENT_BY": 7}), "times": "yesterday"},
        {"m": json.dumps({"x": "\x1b[31m" * 900, "ROOT_ID": message.root_id})},
        {"ROOT_ID": message.root_id, "times": f"{message.entry} 1 2 3 4", "m": "[1]"},
    ):
        echo.add(fields, REPLIES)
    echo.client.set(echo.names.stream("input", "odd"), "no stream")
    shown = trace(echo, message.root_id)
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert traced(echo, message.root_id)["hops"][0]["to"] == "echo"


def test_a_message_that_came_through_the_gateway_says_so(echo: EchoRun) -> None:
    """Its entry names the connection; a client that stands in answers by its own group."""
    echo.start(listener(hear))
    key = echo.names.stream(*REQUESTS.key)
    echo.client.xgroup_destroy(key, "echo")
    echo.client.xgroup_create(key, "echo@gateway", "0")
    body = {"ID": "a", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [1]}
    asked = echo.add({"m": json.dumps({**body, "SENT_BY": "anna"}), "client": "12 anna"})
    said = {"m": json.dumps({**body, "SENT_BY": "echo", "ID": "b"}), "client": "7 echo"}
    echo.client.xadd(echo.names.stream(*REPLIES.key), said, id=f"{int(asked.split('-')[0]) + 5}-0")
    hear_all(echo, 1)
    first, second = traced(echo, "r")["hops"]
    assert (first["from"], first["client"], first["to"]) == ("anna", "12 anna", "echo")
    assert (first["took_us"], second["to"], second["state"]) == (5000, "listener", "done")
    assert "anna (gateway)" in trace(echo, "r").stdout


def test_each_entry_says_when_the_one_before_was_handled(echo: EchoRun) -> None:
    """In an order that cannot be otherwise; arrays and IDs are where they were."""
    echo.start(echo_component(slow))
    message = echo.send(*range(20))
    assert echo.wait_reply(message).array[19] == 38
    _, fields = echo.client.xrange(echo.names.stream(*REPLIES.key))[0]
    assert list(fields) == [b"ID", b"ROOT_ID", b"m", b"times", b"DATA"]
    times = Times.read(fields[b"times"])
    assert times is not None
    assert times.answers == message.entry
    assert 0 <= times.began <= times.ended - HANDLER_MS * 1000 <= times.sent - HANDLER_MS * 1000
    _, fields = echo.client.xrange(echo.names.stream(*REQUESTS.key))[0]
    assert b"times" not in fields, "who only sends has nothing to tell"
