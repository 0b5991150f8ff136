"""The commit is attacked: whatever stands in its way, nothing is half done, and then it is done."""

from __future__ import annotations

import secrets

import pytest
import redis

from roomgrad.commit import Commit
from tests.integration.conftest import EchoRun
from tests.integration.hostile.commit_run import KINDS, REPLIES, REQUESTS, STREAMS, CommitRun

LAST = "18446744073709551615"


@pytest.fixture
def commit_run(echo: EchoRun) -> CommitRun:
    made = CommitRun(echo.client, echo.names)
    made.set()
    return made


def assert_nothing_happens(
    commit_run: CommitRun, *kinds: str, by: redis.Redis | None = None
) -> str:
    before = commit_run.snapshot()
    answer = commit_run.try_it(by)
    assert answer.split(" ")[0] in kinds, answer
    assert commit_run.snapshot() == before, answer
    return answer


def test_it_does_all_of_it(commit_run: CommitRun) -> None:
    """So that what follows attacks something that works; and a second time it is gone."""
    assert commit_run.try_it().startswith("ok")
    commit_run.assert_done()
    assert_nothing_happens(commit_run, "gone")


@pytest.mark.parametrize("name", KINDS)
def test_a_key_of_another_type(commit_run: CommitRun, name: str) -> None:
    """Each of them, as a text, and as a set."""
    kept = commit_run.client.dump(commit_run.key(name))
    puts = [lambda key: commit_run.client.sadd(key, "member")]
    if KINDS[name] != "string":
        puts.append(lambda key: commit_run.client.set(key, "somebody's own"))
    for put in puts:
        commit_run.client.delete(commit_run.key(name))
        put(commit_run.key(name))
        answer = assert_nothing_happens(commit_run, "refused", "error")
        assert name in answer or "WRONGTYPE" in answer
    commit_run.client.delete(commit_run.key(name))
    if kept:
        commit_run.client.restore(commit_run.key(name), 0, kept)
    assert commit_run.try_it().startswith("ok")
    commit_run.assert_done()


def only_to_read(name: str) -> list[str]:
    others = [f"~{{*}}:{other}" for other in KINDS if other != name]
    return ["allchannels", f"%R~{{*}}:{name}", *others]


WRITES = ["xack", "zadd", "xadd", "publish", "hset", "hdel", "hincrby", "zremrangebyrank"]
WRITES += ["xtrim", "persist", "unlink"]
READS = ["hget", "hexists", "type", "zscore", "time", "xrange", "xinfo", "exists", "xlen"]
READS += ["xpending"]
RULES = {
    **{f"no {command}": ["allkeys", "allchannels", f"-{command}"] for command in WRITES + READS},
    "no channel": ["allkeys", "resetchannels"],
    **{f"only to read {name}": only_to_read(name) for name in KINDS},
}


@pytest.mark.parametrize("missing", RULES)
def test_a_permission_is_taken_away(commit_run: CommitRun, echo: EchoRun, missing: str) -> None:
    """Each command, the channel, and each key, that may only be read."""
    user = f"user-{secrets.token_hex(4)}"
    rules = ["reset", "on", ">secret", "+@all", *RULES[missing]]
    echo.client.execute_command("ACL", "SETUSER", user, *rules)
    echo.stack.callback(echo.client.execute_command, "ACL", "DELUSER", user)
    with redis.Redis.from_url(echo.url, username=user, password="secret") as limited:
        answer = assert_nothing_happens(commit_run, "refused", "error", by=limited)
        assert "permission" in answer or "ACL" in answer
        echo.client.execute_command("ACL", "SETUSER", user, "allkeys", "allchannels", "+@all")
        assert commit_run.try_it(limited).startswith("ok")
    commit_run.assert_done()


CHANGED = {
    "a value under SAME": ("memory:echo", "HSET", "known", "other"),
    "a record that was read is gone": ("memory:echo", "HDEL", "known"),
    "a field under ABSENT": ("memory:echo", "HSET", "new", "other"),
    "the model's version": ("model:echo", "HSET", "version", "4-x"),
    "the model's version is gone": ("model:echo", "HDEL", "version"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_read_has_changed(commit_run: CommitRun, what: str) -> None:
    """Between read and commit: it is stale, and says which guard."""
    name, command, *words = CHANGED[what]
    kept = commit_run.client.dump(commit_run.key(name)) or b""
    commit_run.client.execute_command(command, commit_run.key(name), *words)
    assert_nothing_happens(commit_run, "stale")
    commit_run.client.restore(commit_run.key(name), 0, kept, replace=True)
    assert commit_run.try_it().startswith("ok")
    commit_run.assert_done()


@pytest.mark.parametrize("gone", ["group", "stream", "claimed by nobody"])
def test_the_message_is_not_owed_any_more(commit_run: CommitRun, gone: str) -> None:
    """Its stream expired, its group was destroyed, or it was acknowledged by hand."""
    heard = commit_run.key(REQUESTS)
    if gone == "group":
        commit_run.client.xgroup_destroy(heard, "echo")
    elif gone == "stream":
        commit_run.client.delete(heard)
    else:
        commit_run.client.xack(heard, "echo", commit_run.entries[0])
    assert_nothing_happens(commit_run, "gone")


COUNTERS = [
    ("counters:echo", "received"),
    ("counters:echo", "applied"),
    ("counters:echo", "distinct"),
    ("later:echo:bodies", "count"),
    ("model:echo:kept", "3-a:open"),
    ("model:echo:kept", "2-b:open"),
]
NO_COUNTS = ["many", "", " 1", "+5", "007", "-0", "1.5", "1e3", "0x10", "nan", "1\0"]
NO_COUNTS += [str(2**63 - 1), str(-(2**63)), "9" * 16]


@pytest.mark.parametrize(("name", "counter"), COUNTERS)
def test_a_counter_that_cannot_be_counted_on(
    commit_run: CommitRun, name: str, counter: str
) -> None:
    """HINCRBY fails for it, or would soon: no number, one written otherwise, or at the end."""
    key = commit_run.key(name)
    before = commit_run.client.hget(key, counter)
    for value in NO_COUNTS:
        commit_run.client.hset(key, counter, value)
        answer = assert_nothing_happens(commit_run, "refused")
        assert counter in answer
    if before is None:
        commit_run.client.hdel(key, counter)
    else:
        commit_run.client.hset(key, counter, before)
    assert commit_run.try_it().startswith("ok")
    commit_run.assert_done()


@pytest.mark.parametrize("words", [(b"MAXLEN", b"1"), (b"MINID", b"x"), (b"MINID", b"=", b"1-0")])
def test_a_log_is_trimmed_by_an_entry_or_not_at_all(
    commit_run: CommitRun, words: tuple[bytes, ...]
) -> None:
    """What XTRIM would not understand is found before the first write."""
    commit = Commit()
    commit.pending(commit_run.key(REQUESTS), commit_run.key("done"), "echo", commit_run.entries[0])
    commit.do(b"XTRIM", commit_run.key("model:echo:steps"), *words)
    before = commit_run.snapshot()
    assert commit_run.send(*commit.parts()).startswith("wrong")
    assert commit_run.snapshot() == before


@pytest.mark.parametrize(
    "by", ["1" + "0" * 30, "-1" + "0" * 30, str(2**63), "many", "1.5", "", "007"]
)
def test_a_counter_cannot_grow_by_anything(commit_run: CommitRun, by: str) -> None:
    """The commit itself is wrong: nobody could mend the server for it."""
    commit = Commit()
    commit.pending(commit_run.key(REQUESTS), commit_run.key("done"), "echo", commit_run.entries[0])
    commit.do(b"HINCRBY", commit_run.key("counters:echo"), b"received", by.encode())
    before = commit_run.snapshot()
    assert commit_run.send(*commit.parts()).startswith("wrong")
    assert commit_run.snapshot() == before


@pytest.mark.parametrize("how", ["stands", "last but some", "deleted", "deleted, last", "XSETID"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_has_used_up_its_ids(commit_run: CommitRun, name: str, how: str) -> None:
    """Somebody XADDed the highest ID: the server would take no entry after it."""
    client, key = commit_run.client, commit_run.key(name)
    grouped = bool(client.exists(key))
    highest = f"{LAST}-{LAST if how != 'last but some' else 7}"
    if how != "deleted, last":
        client.xadd(key, {"m": "{}"})
    if how == "XSETID":
        client.execute_command("XSETID", key, highest)
        if grouped:  # somebody read up to there
            client.xgroup_setid(key, "echo", highest)
    else:
        client.xadd(key, {"m": "{}"}, id=highest)
        if grouped:
            client.xreadgroup("echo", "me", {key: ">"})
            client.xack(key, "echo", highest)
        if how.startswith("deleted"):
            client.xdel(key, highest)
    assert "used up its IDs" in assert_nothing_happens(commit_run, "refused")
    client.delete(key)
    if grouped:
        client.xgroup_create(key, "echo", "0", mkstream=True)
    assert commit_run.try_it().startswith("ok")
    commit_run.assert_done()


@pytest.mark.parametrize("count", [7002, 7998, 8000, 100_000])
@pytest.mark.parametrize("how", ["SEND", "LATER", "XADD", "HSET"])
def test_more_arguments_than_lua_unpacks(commit_run: CommitRun, how: str, count: int) -> None:
    """Unpacking them would fail after the first write."""
    commit, many = Commit(), [b"f"] * count
    commit.pending(commit_run.key(REQUESTS), commit_run.key("done"), "echo", commit_run.entries[0])
    if how == "SEND":
        commit.send(commit_run.key(REPLIES), "ring", b"", many)
    elif how == "LATER":
        dues = (commit_run.key("later:echo"), commit_run.key("later:echo:bodies"))
        commit.delay(*dues, 1.0, commit_run.key(REPLIES), "ring", b"", many)
    elif how == "XADD":
        commit.do(b"XADD", commit_run.key("dead"), b"*", *many)
    else:
        commit.do(b"HSET", commit_run.key("records"), *many)
    before = commit_run.snapshot()
    assert commit_run.send(*commit.parts()).startswith("wrong")
    assert commit_run.snapshot() == before


def test_very_many_writes(commit_run: CommitRun) -> None:
    """A hundred thousand are done as one; above a million are refused by their number."""
    commit = Commit()
    commit.pending(commit_run.key(REQUESTS), commit_run.key("done"), "echo", commit_run.entries[0])
    for number in range(100_000):
        commit.do(b"HSET", commit_run.key("records"), b"%d" % number, b"1")
    keys, arguments = commit.parts()
    before = commit_run.snapshot()
    at = arguments.index(b"100000")
    too_many = [*arguments[:at], b"1000001", *arguments[at + 1 :]]
    assert commit_run.send(keys, too_many).startswith("wrong")
    assert commit_run.snapshot() == before
    assert commit_run.send(keys, arguments).startswith("ok")
    assert commit_run.client.hlen(commit_run.key("records")) == 100_000


def test_arguments_that_are_cut_anywhere(commit_run: CommitRun) -> None:
    """By a client that somebody else wrote: at every place, and without each of the keys."""
    keys, arguments = commit_run.commit().parts()
    before = commit_run.snapshot()
    for count in range(len(arguments)):
        answer = commit_run.send(keys, arguments[:count])
        assert not answer.startswith("ok"), count
        assert commit_run.snapshot() == before, (count, answer)
    for count in range(len(keys)):
        answer = commit_run.send(keys[:count], arguments)
        assert commit_run.snapshot() == before, (count, answer)
    answer = commit_run.send(keys, [*arguments, b"more"])
    assert answer.startswith("wrong")
    assert commit_run.snapshot() == before


RUBBISH = [b"", b"-1", b"2", b"1.5", b"nan", b"9" * 400]


def test_any_argument_that_is_replaced_by_rubbish(commit_run: CommitRun) -> None:
    """It is done whole, as it was asked for, or nothing happens."""
    keys, arguments = commit_run.commit().parts()
    before = commit_run.snapshot()
    done = 0
    for at in range(len(arguments)):
        for rubbish in RUBBISH:
            answer = commit_run.send(keys, [*arguments[:at], rubbish, *arguments[at + 1 :]])
            if answer.startswith("ok"):  # a name, a text or a number was replaced by another
                done += 1
                commit_run.set()
                keys, arguments = commit_run.commit().parts()
                before = commit_run.snapshot()
            else:
                assert commit_run.snapshot() == before, (at, arguments[at], rubbish, answer)
    assert done > 30
