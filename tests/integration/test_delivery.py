"""Delivery: take-over from the dead, retries, dead letters, entries that are no messages."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

import numpy as np
import orjson
import pytest
import structlog

from roomgrad import Context, Message, scripts
from roomgrad.errors import StrayMessage
from roomgrad.redis.roots import inbox_stream
from roomgrad.redis.server import connect
from roomgrad.runtime import runs
from roomgrad.runtime.dead_letters import ERROR_STREAM
from tests.integration.conftest import EchoRun
from tests.integration.echo import (
    ECHO,
    FORWARD,
    GRADIENTS,
    OUTPUT,
    REPLIES,
    REQUESTS,
    echo_component,
    listener,
    numbers,
)
from tests.waiting import until


def letter(echo: EchoRun) -> dict[str, Any]:
    """The history of the only dead letter, once it is there."""
    echo.wait_for(ERROR_STREAM)
    [fields] = echo.dead_letters()
    history: dict[str, Any] = orjson.loads(fields[b"history"])
    return history


# runs of a handler


@pytest.mark.parametrize("size", [4, 17])
def test_a_handler_that_runs_again_gets_the_message_as_it_was_sent(
    echo: EchoRun, size: int
) -> None:
    """Although it has changed the array in place before another replica changed what it read."""
    table, runs_of_handler = echo.names.table("shared"), []

    def double(message: Message, context: Context) -> Message:
        message.array[...] *= 2
        context.table("shared").get("now")
        runs_of_handler.append(message.array[0])
        if len(runs_of_handler) == 1:
            echo.client.hset(table, "now", b'{"n":1}')
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(double))
    assert echo.wait_reply(echo.send(*size * [3])).array.tolist() == size * [6]
    assert runs_of_handler == [6, 6]


# take-over


def test_a_message_of_a_killed_replica_is_taken_over(echo: EchoRun) -> None:
    """A process dies with a message in hand: another handles it once lease and heartbeat end."""
    victim = echo.spawn("hang", handler_timeout_s=60)
    message = echo.send(-1)
    until(lambda: busy(echo))
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    echo.start(echo_component())
    assert echo.wait_reply(message).array.tolist() == [-2.0]
    assert echo.counter("received") == 1
    assert echo.pending() == 0


def busy(echo: EchoRun) -> bool:
    """Whether a heartbeat says that its replica is inside a handler."""
    keys = echo.client.keys(echo.names.alive("*").replace("[", r"\["))
    beats = [orjson.loads(value) for value in echo.client.mget(keys) if value] if keys else []
    return any(beat["handling"] for beat in beats)


def test_nothing_is_taken_from_a_slow_replica_that_lives(echo: EchoRun) -> None:
    """A handler may take many leases: its heart beats, so the message stays its own."""
    inside, release = threading.Event(), threading.Event()

    def slow(message: Message, context: Context) -> Message:
        inside.set()
        assert release.wait(60)
        return message.reply(OUTPUT, numbers(1))

    stolen: list[Message] = []

    def thief(message: Message, context: Context) -> Message:
        stolen.append(message)
        return message.reply(OUTPUT, numbers(2))

    echo.start(echo_component(slow))
    echo.stack.callback(release.set)
    message = echo.send(0)
    assert inside.wait(60)
    other = echo.start(echo_component(thief))
    first = echo.client.xpending_range(echo.names.stream(*REQUESTS.key), "echo", "-", "+", 1)[0]
    # Two leases pass: the other replica has looked for orphans several times meanwhile.
    until(lambda: idle_ms(echo) > first["time_since_delivered"] + 2 * 300)
    assert not stolen
    assert not other.status.orphans
    release.set()
    assert echo.wait_reply(message).array.tolist() == [1.0]


def idle_ms(echo: EchoRun) -> int:
    key = echo.names.stream(*REQUESTS.key)
    return int(echo.client.xpending_range(key, "echo", "-", "+", 1)[0]["time_since_delivered"])


# retries and the delivery limit


def test_a_handler_that_raises_is_tried_again(echo: EchoRun) -> None:
    """By the same replica; the server counts the deliveries; then it goes through."""
    tries: list[int] = []

    def clumsy(message: Message, context: Context) -> Message:
        tries.append(1)
        context.counters.add("received")
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(clumsy))
    message = echo.send(1)
    echo.wait_reply(message)
    assert len(tries) == 3
    assert echo.counter("received") == 1
    assert echo.dead_letters() == []


def test_other_messages_go_on_while_one_is_tried_again(echo: EchoRun) -> None:
    """A retry waits beside the loop, not in it."""
    healed = threading.Event()

    def moody(message: Message, context: Context) -> Message:
        if message.array[0] < 0 and not healed.is_set():
            raise RuntimeError("bad mood")
        return message.reply(OUTPUT, message.array)

    echo.start(echo_component(moody), max_deliveries=100)
    bad, good = echo.send(-1), echo.send(1)
    echo.wait_reply(good)
    healed.set()
    echo.wait_reply(bad)


def test_a_handler_that_always_raises_ends_as_a_dead_letter(echo: EchoRun) -> None:
    """After the delivery limit, with reason, history and the entry itself."""

    def broken(message: Message, context: Context) -> Message:
        raise RuntimeError("no such \udcff luck")  # half a surrogate pair is no reason to fail

    echo.start(echo_component(broken), max_deliveries=3)
    message = echo.send(7)
    history = letter(echo)
    assert history["reason"].startswith("RuntimeError: no such")
    assert history["deliveries"] == 3
    assert history["group"] == "echo"
    assert history["stream"] == echo.names.stream(*REQUESTS.key)
    assert history["entry"] == message.entry
    assert echo.dead_letters()[0][b"ID"] == message.id.encode()
    assert echo.pending() == 0
    assert echo.reply_count() == 0


def test_what_another_replica_has_committed_meanwhile_is_no_dead_letter(echo: EchoRun) -> None:
    """A reply is stray for the slower of two replicas; it says nothing of a dead letter."""
    taken = threading.Event()

    def slow(message: Message, context: Context) -> None:
        if not taken.is_set():
            echo.client.xack(echo.names.stream(*REQUESTS.key), "echo", message.entry)
            taken.set()
            raise StrayMessage("no memory of it")

    with structlog.testing.capture_logs() as lines:
        echo.start(echo_component(slow))
        echo.send(1)
        until(taken.is_set)
        echo.send(2)
        until(lambda: echo.client.zcard(echo.names.done("echo", *REQUESTS.key)) == 1)
    assert [each for each in lines if each["event"] == "dead letter"] == []
    assert echo.dead_letters() == []


def test_the_delivery_limit_holds_when_the_process_dies_inside_the_handler(echo: EchoRun) -> None:
    """The server counts: after so many deaths the message is a dead letter, and others go on."""
    poison, good = echo.send(-1), echo.send(5)
    for _ in range(2):
        victim = echo.spawn("die", max_deliveries=2)
        assert victim.wait(30) == 9
    echo.spawn("die", max_deliveries=2)
    history = letter(echo)
    assert history["reason"] == "delivered 2 times and never committed"
    assert history["entry"] == poison.entry
    echo.wait_reply(good)


def test_a_message_is_not_counted_dead_for_what_came_with_it(echo: EchoRun) -> None:
    """What ends its process takes no innocent message along into the dead letters."""

    def answered(message: Message, context: Context) -> Message:
        return message.reply(OUTPUT, message.array, type=FORWARD)

    first = echo.start(echo_component(answered=answered))
    first.stop()
    until(lambda: not echo.client.exists(echo.names.alive(first.consumer)))
    # Both are delivered to a consumer that is gone, as by one read.
    echo.send(-1)
    echo.add(entry(TYPE="DATA/GRADIENT"), GRADIENTS)
    keys = [echo.names.stream(*stream.key) for stream in (REQUESTS, GRADIENTS)]
    echo.client.xreadgroup("echo", "echo~gone", dict.fromkeys(keys, ">"))
    handled: list[str] = []
    inside, release = threading.Event(), threading.Event()

    def note(message: Message, context: Context) -> Message:
        handled.append(message.entry)
        inside.set()
        assert release.wait(60)
        return message.reply(OUTPUT, message.array, type=FORWARD)

    echo.start(echo_component(note, answered=note))
    echo.stack.callback(release.set)
    assert inside.wait(60)
    owners = [
        echo.client.xpending_range(key, "echo", "-", "+", 10)[0]["consumer"].decode()
        for key in keys
    ]
    assert len(handled) == 1
    assert owners.count("echo~gone") == 1


def test_a_handler_that_hangs_ends_its_process(echo: EchoRun) -> None:
    """After HANDLER_TIMEOUT_S, so that a hanging handler becomes a death."""
    victim = echo.spawn("hang", handler_timeout_s=0.5)
    echo.send(-1)
    assert victim.wait(30) == 70


def test_a_clock_that_jumps_does_not_end_a_handler(echo: EchoRun) -> None:
    """Durations are measured by the monotonic clock, ages by the server's."""
    process = echo.spawn("jump", handler_timeout_s=60)
    assert echo.wait_reply(echo.send(1)).array.tolist() == [2.0]
    assert process.poll() is None


# dead letters reach everybody who waits


def test_everybody_forgets_a_root_that_was_given_up(echo: EchoRun) -> None:
    """Memory of the root goes in every component, and its opener is told and goes on."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note="one")
        context.memory.put("more:" + message.id, note="two")
        return message.reply(OUTPUT, message.array)

    def given_up(records: list[dict[str, Any]], context: Context) -> Message:
        context.counters.add("dead")
        notes = sorted(record["note"] for record in records)
        assert notes == ["one", "two"]
        return Message.open(OUTPUT, numbers(100))

    def choke(message: Message, context: Context) -> None:
        if message.array[0] < 0:
            raise ValueError("cannot listen to this")

    echo.start(echo_component(keep, on_dead=given_up))
    echo.start(listener(choke), max_deliveries=2)
    good, bad = echo.send(1), echo.send(-1)
    next_root = until(lambda: [m for m in said(echo) if m == 100.0])
    assert next_root == [100.0]
    assert echo.counter("dead") == 1
    memory = echo.client.hgetall(echo.names.memory("echo"))
    assert len(memory) == 2  # the good one's, which nobody has answered
    assert all(good.root_id.encode() in value for value in memory.values())
    assert bad.root_id not in str(memory)
    notice = echo.wait_for(inbox_stream(echo.names, "echo"))
    assert notice.root_id == bad.root_id
    assert "cannot listen to this" in notice.fields["TEXT"]


def said(echo: EchoRun) -> list[float]:
    entries = echo.client.xrange(echo.names.stream(*REPLIES.key))
    return [orjson.loads(fields[b"m"])["DATA"][0] for _, fields in entries]


def test_roots_with_strange_names_are_forgotten_too(echo: EchoRun) -> None:
    """Quotes, spaces and other letters in a ROOT_ID do not save its memory."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note=1)
        return message.reply(OUTPUT, message.array)

    def choke(message: Message, context: Context) -> None:
        raise ValueError("no")

    echo.start(echo_component(keep))
    echo.start(listener(choke), max_deliveries=1)
    for root_id in ('"', "\\", "ä \n{", "*"):
        echo.add(entry(ROOT_ID=root_id, ID=root_id))
    until(lambda: len(echo.dead_letters()) == 4)
    until(lambda: echo.pending(inbox_stream(echo.names, "echo")) == 0)
    until(lambda: echo.client.hlen(echo.names.memory("echo")) == 0)


# entries that are no messages


def entry(raw: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """The fields of an entry that is a message but for the changes; `...` leaves one out."""
    body = {"ID": "i", "ROOT_ID": "r", "TYPE": "DATA/FORWARD", "DATA": [1.0]}
    body = {name: value for name, value in {**body, **changes}.items() if value is not ...}
    fields: dict[str, Any] = {"m": orjson.dumps(body)}
    fields.update(
        {name: body[name] for name in ("ID", "ROOT_ID") if isinstance(body.get(name), str)}
    )
    if raw is not None:
        fields["DATA"] = raw
    return fields


LARGE = {"$array": {"field": "DATA", "dtype": "<f4", "shape": [100]}}
BAD = {
    "no m": ({"hello": "world"}, "expected a field m"),
    "no JSON": ({"m": "hello"}, "not JSON"),
    "no object": ({"m": "[]"}, "expected a JSON object"),
    "binary": ({"m": b"\xff\x00"}, "not JSON"),
    "wrong shape": (entry(DATA=[[1.0]]), "expected shape (n,), got (1, 1)"),
    "text": (entry(DATA=["1"]), "expected numbers of shape (n,)"),
    "NaN": (entry(np.array([1, np.nan] * 50, "<f4").tobytes(), DATA=LARGE), "got NaN"),
    "null": (entry(DATA=[None]), "DATA: expected"),
    "unknown TYPE": (entry(TYPE="DATA/NOISE"), "TYPE 'DATA/NOISE'"),
    "no TYPE": (entry(TYPE=...), "TYPE: expected a text"),
    "extra field": (entry(EXTRA=1), "unknown field 'EXTRA'; allowed are DATA, HOW"),
    "no ROOT_ID": (entry(ROOT_ID=...), "ROOT_ID: expected a text"),
    "no DATA": (entry(DATA=...), "field DATA of shape (n,) is missing"),
    "status": (entry(MODEL_STATUS=[]), "MODEL_STATUS: expected 1"),
    "version": (entry(v=99), "format version 99"),
    "truncated bytes": (entry(b"\0" * 399, DATA=LARGE), "has 400 bytes, got 399"),
    "missing bytes": (entry(DATA=LARGE), "the field with its bytes is missing"),
}


def test_what_is_no_message_becomes_a_dead_letter_and_the_component_goes_on(echo: EchoRun) -> None:
    """Each with its reason, at once, in one piece; the next good message is handled."""
    echo.start(echo_component())
    for fields, _ in BAD.values():
        echo.add(fields)
    echo.wait_reply(echo.send(1))
    letters = echo.dead_letters()
    assert len(letters) == len(BAD)
    for found, (kind, (fields, reason)) in zip(letters, BAD.items(), strict=True):
        history = orjson.loads(found.pop(b"history"))
        assert reason in history["reason"], kind
        assert history["deliveries"] == 1, kind
        stored = {k.encode(): v.encode() if isinstance(v, str) else v for k, v in fields.items()}
        assert found == stored, kind
    assert echo.pending() == 0
    assert echo.counter("received") == 1


def test_an_answer_that_nobody_waits_for_is_a_dead_letter(echo: EchoRun) -> None:
    """A gradient for an unknown root is stray: it condemns nothing but itself."""

    def answered(message: Message, context: Context) -> Message:
        context.memory.pop(message.id)
        return message.reply(OUTPUT, message.array, type=FORWARD)

    echo.start(echo_component(answered=answered))
    echo.add(entry(TYPE="DATA/GRADIENT"), GRADIENTS)
    history = letter(echo)
    assert "no memory of i: its root is unknown or was answered before" in history["reason"]
    assert echo.client.xlen(echo.names.stream("@echo", "LOG/ERROR")) == 0
    echo.wait_reply(echo.send(1))


def test_skipped_messages_are_acknowledged(echo: EchoRun) -> None:
    """What `when` does not want is passed over with the next commit, or when nothing comes."""
    echo.start(echo_component(when=lambda message: message.array[0] > 0))
    for number in (-1, -2, -3):
        echo.send(number)
    echo.wait_reply(echo.send(1))
    assert echo.pending() == 0
    echo.send(-4)
    key = echo.names.done("echo", *REQUESTS.key)
    until(lambda: echo.client.zcard(key) == 5)
    assert echo.pending() == 0
    assert echo.counter("received") == 1


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_message_published_by_hand_is_taken_once(echo: EchoRun, replicas: int) -> None:
    """A whole message on a room's channel enters its stream, once by its ID."""
    for _ in range(replicas):
        echo.start(echo_component())
    channel = echo.names.channel("input")
    until(lambda: echo.client.pubsub_numsub(channel)[0][1] == replicas)
    text = orjson.dumps({"ID": "my-1", "ROOT_ID": "mine", "TYPE": "DATA/FORWARD", "DATA": [4]})
    echo.client.publish(channel, text)
    reply = echo.wait_for(REPLIES, root_id="mine")
    assert reply.array.tolist() == [8.0]
    echo.client.publish(channel, text)
    echo.client.publish(channel, text.replace(b"my-1", b"my-2"))
    echo.wait_for(REPLIES, root_id="mine", after=reply.entry)
    assert echo.client.xlen(echo.names.stream(*REQUESTS.key)) == 2
    assert echo.counter("received") == 2


def test_a_published_message_enters_one_of_two_databases(echo: EchoRun) -> None:
    """Channels ignore databases. The lowest one adds a message, unless it names another one."""
    url = echo.url.removesuffix("/0") + "/1"
    with contextlib.closing(connect(url)) as client:
        twin = EchoRun(url, client, echo.names, echo.stack)
        for run in (echo, twin):
            run.start(echo_component())
        channel = echo.names.channel("input")
        until(lambda: client.pubsub_numsub(channel)[0][1] == 2)
        body = {"ROOT_ID": "mine", "TYPE": "DATA/FORWARD", "DATA": [4]}
        client.publish(channel, orjson.dumps({"ID": "unnamed", **body}))
        client.publish(channel, b"rubbish")
        for number, run in enumerate((echo, twin)):
            named = {"ID": f"for-{number}", "DATABASE": number, **body}
            client.publish(channel, orjson.dumps(named))
            until(lambda number=number, run=run: f"for-{number}" in ids(run))
        assert ids(echo) == ["unnamed", "for-0"]
        assert ids(twin) == ["for-1"]
        errors = echo.names.stream(*ERROR_STREAM.key)
        assert (echo.client.xlen(errors), client.xlen(errors)) == (1, 0)
        echo.client.delete(echo.names.run_info())
        client.publish(channel, orjson.dumps({"ID": "alone", **body}))
        until(lambda: "alone" in ids(twin))


def ids(run: EchoRun) -> list[str]:
    """Return the IDs of the messages in room `input`."""
    entries = run.client.xrange(run.names.stream(*REQUESTS.key))
    return [fields[b"ID"].decode() for _, fields in entries]


@pytest.mark.parametrize(
    "rubbish",
    [b"hello", b"[1]", b"\xff\xfe", b'{"ID":[]}', b'{"TYPE":"DATA/FORWARD","MODEL_STATUS":{}}'],
)
def test_rubbish_on_a_channel_is_answered_once(echo: EchoRun, rubbish: bytes) -> None:
    """In room `errors`, with the right command, whoever listens; and the ears stay open."""
    for _ in range(2):
        echo.start(echo_component())
    channel = echo.names.channel("input")
    until(lambda: echo.client.pubsub_numsub(channel)[0][1] == 2)
    echo.client.publish(channel, rubbish)
    answer = echo.wait_for(ERROR_STREAM)
    assert f"PUBLISH '{channel}'" in answer.fields["TEXT"]
    good = orjson.dumps({"ID": "g", "ROOT_ID": "good", "TYPE": "DATA/FORWARD", "DATA": [1]})
    echo.client.publish(channel, good)
    echo.wait_for(REPLIES, root_id="good")
    assert echo.client.xlen(echo.names.stream(*ERROR_STREAM.key)) == 1


def test_a_large_message_travels_as_raw_bytes(echo: EchoRun) -> None:
    """A million numbers come back doubled, bit for bit."""
    echo.start(echo_component())
    data = np.random.default_rng(0).standard_normal(1_000_000).astype("<f4")
    reply = echo.wait_reply(echo.send(*data))
    assert reply.array.tobytes() == (data * 2).tobytes()


def test_one_id_in_two_streams_is_taken_in_both(echo: EchoRun) -> None:
    """A gradient carries the ID of its forward: by hand too."""

    def answered(message: Message, context: Context) -> Message:
        return message.reply(OUTPUT, -message.array, type=FORWARD)

    echo.start(echo_component(answered=answered))
    channel = echo.names.channel("input")
    until(lambda: echo.client.pubsub_numsub(channel)[0][1] == 1)
    body = {"ID": "my-1", "ROOT_ID": "mine", "TYPE": "DATA/FORWARD", "DATA": [4]}
    echo.client.publish(channel, orjson.dumps(body))
    first = echo.wait_for(REPLIES, root_id="mine")
    echo.client.publish(channel, orjson.dumps({**body, "TYPE": "DATA/GRADIENT"}))
    second = echo.wait_for(REPLIES, root_id="mine", after=first.entry)
    assert (first.array[0], second.array[0]) == (8.0, -4.0)


def test_a_notice_that_cannot_be_handled_is_not_sent_round_again(echo: EchoRun) -> None:
    """`on_dead` raises: the notice is a dead letter, and the last one."""

    def keep(message: Message, context: Context) -> Message:
        context.memory.put(message.id, note=1)
        if message.array[0] < 0:
            raise ValueError("no")
        return message.reply(OUTPUT, message.array)

    def given_up(records: list[dict[str, Any]], context: Context) -> None:
        raise RuntimeError("cannot give up")

    def choke(message: Message, context: Context) -> None:
        raise ValueError("no")

    echo.start(echo_component(keep, on_dead=given_up), max_deliveries=2)
    echo.start(listener(choke), max_deliveries=1)
    echo.send(1)
    until(lambda: len(echo.dead_letters()) == 2)
    notices = echo.client.xlen(echo.names.stream("@echo", "LOG/ERROR"))
    echo.send(-1)  # another message goes its way meanwhile
    until(lambda: len(echo.dead_letters()) == 3)
    until(lambda: echo.pending(inbox_stream(echo.names, "echo")) == 0)
    assert notices == 1


def find_orphans(echo: EchoRun, lease_ms: int) -> list[Any]:
    """What the heartbeat of a replica finds in the echo component's input room."""
    keep = echo.client.register_script(scripts.load("heartbeat"))
    found: Any = keep(
        keys=[
            echo.names.alive("echo~me"),
            echo.names.run_info(),
            echo.names.later("echo"),
            echo.names.memory("echo"),
            echo.names.stream(*REQUESTS.key),
        ],
        args=["{}", 1000, "echo", lease_ms, "echo~me", echo.names.alive(""), 0, 1, "PUBLISH"],
    )
    return [entry.decode() for _, entry in found[8:]]


def test_an_orphan_is_found_behind_many_slow_replicas(echo: EchoRun) -> None:
    """A hundred messages are in the hands of the living; the one of the dead comes last."""
    runs.create_groups(echo.client, ECHO, echo.names)
    echo.client.set(echo.names.alive("echo~slow"), "{}", ex=60)
    key = echo.names.stream(*REQUESTS.key)
    for owner, count in (("slow", 130), ("dead", 1)):
        entries = [echo.add({"m": "x"}) for _ in range(count)]
        echo.client.xreadgroup("echo", f"echo~{owner}", {key: ">"}, count=count)
    assert find_orphans(echo, lease_ms=0) == entries


@pytest.mark.parametrize(
    ("lease_ms", "alive", "orphans"), [(0, False, 1), (60_000, False, 0), (0, True, 0)]
)
def test_an_orphan_has_neither_a_lease_nor_a_living_owner(
    echo: EchoRun, lease_ms: int, alive: bool, orphans: int
) -> None:
    """Both must be over before a message is taken over."""
    runs.create_groups(echo.client, ECHO, echo.names)
    message = echo.send(1)
    key = echo.names.stream(*REQUESTS.key)
    echo.client.xreadgroup("echo", "echo~other", {key: ">"})
    if alive:
        echo.client.set(echo.names.alive("echo~other"), "{}", ex=60)
    assert find_orphans(echo, lease_ms) == [message.entry] * orphans
