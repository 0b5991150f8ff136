"""Each guard and write of the other scripts, called as their callers do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from roomgrad import scripts
from roomgrad.redis.server import connect
from tests.integration.hostile.script_run import GROUP, ME, Scripts
from tests.waiting import until

DEAD = "them"
HIGHEST = "18446744073709551615"


@pytest.fixture
def run(embedded_url: str) -> Iterator[Scripts]:
    with connect(embedded_url) as client:
        yield Scripts(client)


def heard(subscriber: redis.client.PubSub) -> dict[str, Any]:
    """Return the next message on a channel; it was published before."""
    return until(lambda: subscriber.get_message(timeout=1), timeout_s=10) or {}


# trim


def test_the_group_that_is_furthest_behind_keeps_its_entries(run: Scripts) -> None:
    """Of several groups, whatever their order."""
    run.add("1-0", "2-0", "3-0", "4-0")
    for name, at in (("a", "4-0"), ("b", "2-0"), ("c", "4-0")):
        run.group(name, at)
    assert run.trim(1, "a", "b", "c") == 1
    assert run.left() == ["2-0", "3-0", "4-0"]


def test_what_is_pending_keeps_its_entries(run: Scripts) -> None:
    """Although the group has read further."""
    run.add("1-0", "2-0", "3-0")
    run.group()
    run.read()
    run.client.xack(run.stream, GROUP, "1-0")
    assert run.trim(1, GROUP) == 1
    assert run.left() == ["2-0", "3-0"]


def test_what_a_group_has_not_read_keeps_its_entries(run: Scripts) -> None:
    """It has read one of three."""
    run.add("1-0", "2-0", "3-0")
    run.group()
    run.read(count=1)
    run.client.xack(run.stream, GROUP, "1-0")
    run.trim(1, GROUP)
    assert run.left()[-2:] == ["2-0", "3-0"]


def test_a_missing_group_keeps_all_unless_it_was_forgotten(run: Scripts) -> None:
    """It is created again at 0."""
    run.add("1-0", "2-0", "3-0")
    assert run.trim(1, GROUP) == 0
    run.client.hset(run.run, f"forgotten:{GROUP}", 1)
    assert run.trim(1, GROUP) == 2


@pytest.mark.parametrize("group", ["client@gateway", "served"])
def test_groups_that_the_caller_does_not_know_keep_their_entries(run: Scripts, group: str) -> None:
    """Those of the gateway's clients, and of a component that has joined, until it is forgotten."""
    run.add("1-0", "2-0", "3-0")
    run.group(group)
    run.group("echo", "3-0")
    run.client.hset(run.run, "joins:served", "{}")
    run.trim(1, GROUP)
    assert run.left() == ["1-0", "2-0", "3-0"]
    run.client.hset(run.run, "forgotten:served", 1)
    run.trim(1, GROUP)
    assert len(run.left()) == (1 if group == "served" else 3)


@pytest.mark.parametrize("early", ["9-0", "10-9"])
def test_ids_are_compared_as_numbers(run: Scripts, early: str) -> None:
    """Both halves, also where one has more digits than the other."""
    run.add("8-0", early, "10-10", "10-11")
    run.group("a", early)
    run.group("b", "10-10")
    run.trim(1, "a", "b")
    assert run.left() == [early, "10-10", "10-11"]


def test_a_stream_is_limited_in_bytes(run: Scripts) -> None:
    """Although few entries are in it."""
    run.group()
    for number in range(1, 21):
        run.client.xadd(run.stream, {"m": "x" * 10_000}, id=f"{number}-0")
    run.client.xgroup_setid(run.stream, GROUP, "20-0")
    run.trim(1000, GROUP, most=100_000)
    assert 5 <= len(run.left()) <= 10


def test_marks_go_with_their_entries(run: Scripts) -> None:
    """Those of entries that are kept stay."""
    entries = run.add("1-0", "2-0", "3-0")
    run.group()
    run.read()
    run.client.xack(run.stream, GROUP, *entries)
    run.client.zadd(run.done, {each: int(each[0]) for each in entries})
    run.trim(1, GROUP)
    assert run.client.zrange(run.done, 0, -1) == [b"3-0"]


# heartbeat


def test_a_heartbeat_is_stored_for_a_while(run: Scripts) -> None:
    run.heartbeat(lives_ms=60_000)
    assert 0 < run.client.pttl(run.names.alive(ME)) <= 60_000


def test_a_heartbeat_that_may_not_be_stored_is_an_error(run: Scripts) -> None:
    """The one before stays until its time is over."""
    run.heartbeat()
    with run.user("-set") as limited, pytest.raises(redis.ResponseError, match=r"ACL|permission"):
        run.heartbeat(by=limited)
    assert run.client.exists(run.names.alive(ME))


def test_a_heartbeat_is_published(run: Scripts) -> None:
    """So that a replica notices that it hears nothing; it says so if it may not publish."""
    with run.client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(run.names.alive(ME))
        until(lambda: subscriber.subscribed and subscriber.get_message(timeout=1) is None)
        assert run.heartbeat()[3] == 1
        assert heard(subscriber)["data"] == ME.encode()
    with run.user("-publish") as limited:
        assert run.heartbeat(by=limited)[3] == 0


def test_a_heartbeat_tells_when_a_delayed_message_is_due(run: Scripts) -> None:
    assert run.heartbeat()[1] == -1
    run.delay("m", due=1)
    assert run.heartbeat()[1] == 0


def test_messages_of_the_living_are_not_found(run: Scripts) -> None:
    """Those of the dead are, when their lease is over; until then it tells for how long."""
    run.add("1-0")
    run.group()
    run.read(DEAD)
    assert run.found(run.heartbeat(lease_ms=0)) == ["1-0"]
    beat = run.heartbeat(lease_ms=60_000)
    assert run.found(beat) == []
    assert 0 < beat[2] <= 60_000
    run.client.set(run.names.alive(DEAD), "{}")
    assert run.found(run.heartbeat(lease_ms=0)) == []


def test_messages_of_the_dead_are_found_behind_others(run: Scripts) -> None:
    """A page of those of a slow replica comes first."""
    run.add(*(f"{number}-0" for number in range(1, 72)))
    run.group()
    run.read("slow", count=70)
    run.read(DEAD)
    run.client.set(run.names.alive("slow"), "{}")
    assert run.found(run.heartbeat()) == ["71-0"]


def test_a_missing_group_stops_no_heartbeat(run: Scripts) -> None:
    run.add("1-0")
    assert run.found(run.heartbeat(tidy=1)) == []


def test_memory_that_may_not_be_read_stops_no_heartbeat(run: Scripts) -> None:
    run.client.set(run.names.memory(GROUP), "text")
    assert run.heartbeat()[4] == -1


CONSUMERS = {"dead": True, "young": False, "owing": False, "living": False, ME: False}


@pytest.mark.parametrize("name", CONSUMERS)
def test_consumers_of_the_dead_are_deleted(run: Scripts, name: str) -> None:
    """Not those that owe a message, live, or have read within a minute."""
    run.group()
    source = scripts.load("heartbeat")
    minute = "60000" if name == "young" else "-1"  # in place of waiting for a minute
    if name == "owing":
        run.add("1-0")
    run.read(name)
    if name == "living":
        run.client.set(run.names.alive(name), "{}")
    alive = run.names.alive(ME)
    keys = [alive, run.run, run.later, run.names.memory(GROUP), run.stream]
    words = ["{}", "60000", GROUP, "60000", ME, run.names.alive(""), "1", "0", "PUBLISH"]
    assert "60000" in source
    run.client.eval(source.replace("60000", minute), len(keys), *keys, *words)
    assert (name.encode() not in run.consumers()) == CONSUMERS[name]


# ingest


def test_a_message_is_ingested_once(run: Scripts) -> None:
    with run.client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(run.names.channel("input"))
        until(lambda: subscriber.subscribed and subscriber.get_message(timeout=1) is None)
        entry = run.ingest()
        assert run.ingest() is None
        assert heard(subscriber)["data"] == b"{" + entry + b'"}'
    assert run.left() == [entry.decode()]


def test_the_ids_of_ingested_messages_are_bounded(run: Scripts) -> None:
    taken = run.taken
    fill = "for n = 1, 10000 do redis.call('ZADD', KEYS[1], n, n) end"
    run.client.eval(fill, 1, taken)
    run.ingest()
    assert run.client.zcard(taken) == 10_000


INGEST = ["zadd", "zremrangebyrank", "xadd", "publish"]


@pytest.mark.parametrize("command", INGEST)
def test_a_message_is_ingested_whole_or_not(run: Scripts, command: str) -> None:
    with run.user(f"-{command}") as limited, pytest.raises(redis.ResponseError, match="permission"):
        run.ingest(by=limited)
    assert run.client.keys(run.names.everything()) == []


@pytest.mark.parametrize("what", ["taken", "stream", "fields", "IDs"])
def test_what_cannot_be_ingested_is_not_remembered(run: Scripts, what: str) -> None:
    """It may be published again when that is mended."""
    taken = run.taken
    if what == "taken":
        run.client.set(taken, "text")
    elif what == "stream":
        run.client.set(run.stream, "text")
    elif what == "IDs":
        run.add(f"{HIGHEST}-{HIGHEST}")
    reasons = {
        "taken": "is a string",
        "stream": "is a string",
        "fields": "fields",
        "IDs": "used up",
    }
    with pytest.raises(redis.ResponseError, match=reasons[what]):
        run.ingest(*["f"] * (8000 if what == "fields" else 2))
    assert what == "taken" or not run.client.exists(taken)


def test_a_backlog_of_ten_thousand_refuses_what_is_published(run: Scripts) -> None:
    """That of a client of the gateway does not: it is bounded by itself."""
    fill = "for n = 1, 10000 do redis.call('XADD', KEYS[1], '*', 'm', '') end"
    run.client.eval(fill, 1, run.stream)
    run.group("client@gateway")
    assert run.ingest()
    run.group()
    with pytest.raises(redis.ResponseError, match="10001 messages wait for echo"):
        run.call(
            "ingest", [run.taken, run.stream, run.run],
            "other", "PUBLISH", "c", "{", "", 0, "m", "{}",
        )  # fmt: skip


def test_a_stream_without_groups_is_limited_when_messages_are_ingested(run: Scripts) -> None:
    fill = "for n = 1, 300 do redis.call('XADD', KEYS[1], '*', 'm', '') end"
    run.client.eval(fill, 1, run.stream)
    run.ingest(limit="1")
    assert run.client.xlen(run.stream) < 200


def test_a_run_of_the_same_name_in_a_lower_database_ingests(
    run: Scripts, embedded_url: str
) -> None:
    """Channels have no databases: one of two runs adds the message, in its own database."""
    with connect(embedded_url.replace("/0", "/3")) as third:
        assert run.ingest(by=third, database=3)
        assert third.exists(run.stream)
        third.delete(run.stream, run.taken)
        run.client.hset(run.run, "token", "t")
        assert run.ingest(by=third, database=3) is None
        assert not third.exists(run.stream)


# delayed


def test_a_delayed_message_is_delivered_once_when_it_is_due(run: Scripts) -> None:
    run.delay("late", due=2**52)
    run.delay("now")
    with run.client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(run.names.channel("input"))
        until(lambda: subscriber.subscribed and subscriber.get_message(timeout=1) is None)
        assert run.deliver()[0] > 0
        assert heard(subscriber)["data"].endswith(b'-0"}')
    run.deliver()
    assert run.said() == [b"now"]
    assert run.client.zrange(run.later, 0, -1) == run.client.hkeys(run.bodies) == [b"late"]


BAD_BODIES = {
    "a text": "'text'",
    "a short list": "{ARGV[3], 'c', '{', ''}",
    "a list with a table": "{ARGV[3], 'c', '{', '', 'm', {}}",
    "an odd list": "{ARGV[3], 'c', '{', '', 'm', 'x', 'y'}",
    "a limit that is a text": "{ARGV[3], 'c', '{', 'many', 'm', 'x'}",
}


@pytest.mark.parametrize("body", BAD_BODIES)
def test_a_body_that_cannot_be_read_stays(run: Scripts, body: str) -> None:
    """It delays no other."""
    run.delay("bad", body=BAD_BODIES[body])
    run.delay("good", due=2)
    assert run.deliver()[1] == b"its body cannot be read"
    assert run.said() == [b"good"]
    assert run.client.zrange(run.later, 0, -1) == [b"bad"]


def test_a_body_that_was_deleted_delays_no_other(run: Scripts) -> None:
    run.delay("gone")
    run.client.delete(run.bodies)
    run.delay("good", due=2)
    assert run.deliver() == [-1, b""]
    assert run.said() == [b"good"]


@pytest.mark.parametrize("command", ["xadd", "publish", "zrem", "hdel"])
def test_a_delayed_message_is_delivered_whole_or_not(run: Scripts, command: str) -> None:
    run.delay("m")
    with run.user(f"-{command}") as limited:
        answer = run.deliver(by=limited)
        assert b"permission" in answer[1]
        assert answer[0] == -1  # the next heartbeat tries again
    assert run.said() == []
    assert run.deliver() == [-1, b""]
    assert run.said() == [b"m"]


@pytest.mark.parametrize("broken", ["type", "IDs"])
def test_a_stream_that_takes_no_entry_delays_no_other(run: Scripts, broken: str) -> None:
    run.delay("m")
    if broken == "type":
        run.client.set(run.stream, "text")
    else:
        run.add(f"{HIGHEST}-{HIGHEST}")
    assert (b"is a string" if broken == "type" else b"used up") in run.deliver()[1]
    assert run.client.zcard(run.later) == 1


def test_if_nothing_can_be_sent_the_next_heartbeat_tries_again(run: Scripts) -> None:
    """Although more is due than one call looks at."""
    run.client.set(run.stream, "text")
    run.delay("1")
    run.delay("2", due=2)
    assert run.deliver(1)[0] == -1


def test_as_many_are_delivered_as_the_caller_asks_for(run: Scripts) -> None:
    """And some megabytes at most; the rest is due at once."""
    for number in range(5):
        run.delay(str(number), due=number + 1)
    assert run.deliver(3) == [0, b""]
    assert len(run.said()) == 3
    run.deliver()
    large = "{ARGV[3], 'c', '{', '', 'm', string.rep('x', 4194304)}"
    for number in range(4):
        run.delay(f"large {number}", body=large)
    assert run.deliver() == [0, b""]
    assert run.client.zcard(run.later) == 2


def test_what_is_due_for_a_guest_that_is_gone_is_dropped(run: Scripts) -> None:
    """An entry would create its stream again, without an end to its lease."""
    run.stream = run.names.guest("gone")
    run.delay("m")
    assert run.deliver() == [-1, b""]
    assert not run.client.exists(run.stream, run.later, run.bodies)


def test_a_stream_without_groups_is_limited_when_messages_are_delivered(run: Scripts) -> None:
    fill = "for n = 1, 300 do redis.call('XADD', KEYS[1], '*', 'm', '') end"
    run.client.eval(fill, 1, run.stream)
    run.delay("m", limit="1")
    run.deliver()
    assert run.client.xlen(run.stream) < 200


# requeue


def test_a_dead_letter_is_requeued_for_one_group(run: Scripts) -> None:
    """The others find that they have done it; the header is published."""
    run.group()
    letter = run.letter(m="{}", ID="i")
    with run.client.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe(run.names.channel("input"))
        until(lambda: subscriber.subscribed and subscriber.get_message(timeout=1) is None)
        answer, entry = run.requeue(letter, "other")
        assert heard(subscriber)
    assert answer == b"ok"
    [(_, fields)] = run.client.xrange(run.stream)
    assert fields == {b"for": b"echo", b"m": b"{}", b"ID": b"i"}
    assert run.client.zscore(run.names.done("other", "input", "DATA/FORWARD"), entry)
    assert run.requeue(letter, "other") == [b"gone"]


def test_a_dead_letter_that_was_requeued_before_has_one_receiver(run: Scripts) -> None:
    run.group()
    run.requeue(run.letter(**{"for": "other", "m": "{}"}))
    [(_, fields)] = run.client.xrange(run.stream)
    assert fields == {b"for": b"echo", b"m": b"{}"}


REFUSED = ["empty", "no stream", "no group", "type", "marks", "xadd", "xdel", "publish", "zadd"]


@pytest.mark.parametrize("why", REFUSED)
def test_a_dead_letter_that_is_refused_stays(run: Scripts, why: str) -> None:
    """Nothing is written."""
    if why == "type":
        run.client.set(run.stream, "text")
    elif why != "no stream":
        run.group("echo" if why != "no group" else "other")
    marks = run.names.done("other", "input", "DATA/FORWARD")
    if why == "marks":
        run.client.set(marks, "text")
    letter = (
        run.client.xadd(run.dead, {"history": "{}"}).decode() if why == "empty" else run.letter()
    )
    before = {key: run.client.dump(key) for key in run.client.keys(run.names.everything())}
    with run.user(*[f"-{why}"] if why in ("xadd", "xdel", "publish", "zadd") else []) as limited:
        assert run.requeue(letter, "other", by=limited)[0] == b"refused"
    assert {key: run.client.dump(key) for key in run.client.keys(run.names.everything())} == before


# ensure_group


def test_a_group_is_created_behind_what_was_done(run: Scripts) -> None:
    """Up to the first entry that was not; over pages of a hundred, and to the end."""
    entries = run.add(*(f"{number}-0" for number in range(1, 251)))
    run.client.zadd(run.done, {each: 1 for each in entries if each != "220-0"})
    assert run.call("ensure_group", [run.stream, run.done], GROUP) == 1
    assert run.call("ensure_group", [run.stream, run.done], GROUP) == 0
    run.read(count=1)
    assert [each["message_id"] for each in pending(run)] == [b"220-0"]


def test_a_group_is_created_at_the_end_if_all_was_done(run: Scripts) -> None:
    entries = run.add("1-0", "2-0")
    run.client.zadd(run.done, dict.fromkeys(entries, 1))
    run.call("ensure_group", [run.stream, run.done], GROUP)
    run.read()
    assert pending(run) == []


def pending(run: Scripts) -> list[dict[str, Any]]:
    return list(run.client.xpending_range(run.stream, GROUP, "-", "+", 10))


# withdraw


def test_a_question_is_withdrawn_if_nothing_else_waits(run: Scripts) -> None:
    """The server goes on counting what waits."""
    run.group()
    run.add("0-1")
    run.read()
    run.add("1-0")
    assert run.call("withdraw", [run.stream], "1-0") == 1
    [info] = run.client.xinfo_groups(run.stream)
    assert (info["last-delivered-id"], info["lag"]) == (b"1-0", 0)
    assert run.call("withdraw", [run.stream], "1-0") == 0
    run.add("2-0", "3-0")
    assert run.client.xinfo_groups(run.stream)[0]["lag"] == 2
    assert run.call("withdraw", [run.stream], "2-0") == 0
    assert run.call("withdraw", [run.stream], "3-0") == 0
    run.read(count=1)
    assert run.call("withdraw", [run.stream], "2-0") == 0


# those that read


def test_headers_are_short(run: Scripts) -> None:
    """Some fields, cut; some megabytes in one call."""
    run.client.xadd(run.stream, {"ID": "long name", "m": "x"}, id="1-0")
    [entry] = run.call("headers", [run.stream], "-", 10, 4, "ID")
    assert entry == [b"1-0", [b"ID", b"long"], 13]
    for _ in range(4):
        run.client.xadd(run.stream, {"m": b"x" * 3_000_000})
    assert len(run.call("headers", [run.stream], "-", 10, 4, "ID")) == 3


def test_dead_letters_are_short(run: Scripts) -> None:
    """Values are cut; some megabytes in one call."""
    run.client.xadd(run.dead, {"m": "long text"})
    assert run.call("dead_letters", [run.dead], "+", "-", 10, 4)[0][1:] == [10, [b"m", b"long"]]
    for _ in range(4):
        run.client.xadd(run.dead, {"m": b"x" * 5_000_000})
    assert len(run.call("dead_letters", [run.dead], "+", "-", 10, 4)) == 2


def test_records_are_short(run: Scripts) -> None:
    run.client.hset(run.names.memory(GROUP), "id", "long record")
    assert run.call("memory_heads", [run.names.memory(GROUP)], 0, 4)[1] == [b"id", b"long"]


def test_a_field_is_set_if_it_is_as_it_was_read(run: Scripts) -> None:
    run.client.hset(run.run, "f", "1")
    assert run.call("compare_and_set", [run.run], "f", "0", "2") == 0
    assert run.call("compare_and_set", [run.run], "f", "1", "2") == 1
    assert run.client.hget(run.run, "f") == b"2"


def test_a_command_that_the_server_does_not_know_is_forbidden(run: Scripts) -> None:
    words = [f'["GET","{run.run}"]', '["NOCOMMAND","x"]']
    assert run.call("permissions", [run.run], *words) == [2]
    with run.user("-get") as limited:
        assert run.call("permissions", [run.run], *words, by=limited) == [1, 2]


# a server whose memory is full


def test_scripts_finish_what_was_begun_while_memory_is_full(own_server: Any) -> None:
    """Heartbeats, delayed messages and groups: what was accepted before goes on."""
    with connect(own_server.url) as client:
        run = Scripts(client)
        run.add("1-0")
        run.delay("m")
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        assert run.heartbeat()[5] == 1
        assert client.exists(run.names.alive(ME))
        assert run.deliver() == [-1, b""]
        assert run.said() == [b"{}", b"m"]
        assert run.call("ensure_group", [run.stream, run.done], GROUP) == 1
