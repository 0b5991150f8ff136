"""A commit that begins with a SEND tries that before it writes: if it fails, nothing is written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from roomgrad.commit import SCRIPT, Commit
from tests.integration.conftest import EchoRun
from tests.integration.hostile.commit_run import REPLIES, REPORTS, REQUESTS, CommitRun

LAST = 2**64 - 1
DONE = "done:echo:input:DATA/FORWARD"
HEADER = b'{"ring":1,"entry":"'


def made(echo: EchoRun) -> CommitRun:
    commit_run = CommitRun(echo.client, echo.names)
    commit_run.set()
    return commit_run


@pytest.fixture
def commit_run(echo: EchoRun) -> CommitRun:
    return made(echo)


def ordinary(commit_run: CommitRun, *streams: str, entry: int = 0) -> Commit:
    """Return what most commits are: a guarded record, a reply or several, writes of hashes."""
    commit, key, pending = Commit(), commit_run.key, commit_run.entries[entry]
    commit.pending(key(REQUESTS), key(DONE), "echo", pending)
    commit.same(key("memory:echo"), b"known", b"old")
    for stream in streams or (REPLIES,):
        commit.send(key(stream), key("output"), HEADER, [b"ID", b"i", b"m", b"{}"])
    commit.do(b"HDEL", key("memory:echo"), b"goes")
    commit.do(b"HSET", key("records"), pending.encode(), b"1")
    return commit


def send(commit_run: CommitRun, commit: Commit, by: redis.Redis | None = None) -> str:
    return commit_run.send(*commit.parts(), by)


def assert_nothing_happens(
    commit_run: CommitRun, commit: Commit, by: redis.Redis | None = None
) -> str:
    before = commit_run.snapshot()
    answer = send(commit_run, commit, by)
    assert answer.startswith("refused "), answer
    assert commit_run.snapshot() == before, answer
    return answer


def assert_done(commit_run: CommitRun, replies: int, entry: int = 0) -> None:
    client, key = commit_run.client, commit_run.key
    assert client.xlen(key(REPLIES)) == replies
    assert not client.xpending_range(
        key(REQUESTS), "echo", commit_run.entries[entry], commit_run.entries[entry], 1
    )
    assert client.zscore(key(DONE), commit_run.entries[entry])
    assert client.hget(key("records"), commit_run.entries[entry]) == b"1"
    assert not client.hexists(key("memory:echo"), "goes")


def add_highest(commit_run: CommitRun, stream: str, how: str) -> None:
    """Let another program use up the IDs of a stream."""
    client, key = commit_run.client, commit_run.key(stream)
    client.xadd(key, {"m": "{}"})
    if how == "XSETID":
        client.execute_command("XSETID", key, f"{LAST}-{LAST}")
        return
    client.xadd(key, {"m": "{}"}, id=f"{LAST}-{LAST}")
    if how == "trimmed":
        client.xtrim(key, maxlen=0)
    elif how != "stored":
        client.xdel(key, f"{LAST}-{LAST}")


WAYS = ["stored", "deleted", "trimmed", "XSETID"]


@pytest.mark.parametrize("how", WAYS)
def test_ids_are_used_up_between_two_commits(commit_run: CommitRun, how: str) -> None:
    """By a program that no group tells of: also if the group has not read that far."""
    assert send(commit_run, ordinary(commit_run)).startswith("ok")
    assert_done(commit_run, 1)
    commit_run.client.hset(commit_run.key("memory:echo"), "goes", "x")
    add_highest(commit_run, REPLIES, how)
    answer = assert_nothing_happens(commit_run, ordinary(commit_run, entry=1))
    assert "used up its IDs" in answer or (how == "XSETID" and "exhausted" in answer)
    commit_run.client.delete(commit_run.key(REPLIES))
    assert send(commit_run, ordinary(commit_run, entry=1)).startswith("ok")
    assert_done(commit_run, 1, entry=1)


@pytest.mark.parametrize("how", ["stored", "deleted", "trimmed"])
@pytest.mark.parametrize("streams", [(REPLIES, REPORTS), (REPORTS, REPLIES), (REPLIES, REPLIES)])
def test_ids_of_one_of_several_streams_are_used_up(
    commit_run: CommitRun, streams: tuple[str, str], how: str
) -> None:
    """Whichever it is: what comes before it was not added either."""
    add_highest(commit_run, REPLIES, how)
    answer = assert_nothing_happens(commit_run, ordinary(commit_run, *streams))
    assert "used up its IDs" in answer


def test_one_id_is_left_for_two_entries(commit_run: CommitRun) -> None:
    """The first one would fit."""
    key = commit_run.key(REPLIES)
    commit_run.client.xadd(key, {"m": "{}"}, id=f"{LAST}-{LAST - 1}")
    assert_nothing_happens(commit_run, ordinary(commit_run, REPLIES, REPLIES))
    assert send(commit_run, ordinary(commit_run)) == f"ok {LAST}-{LAST}"


def test_the_stream_becomes_a_hash_between_two_commits(commit_run: CommitRun) -> None:
    """And is named, with what it is."""
    key = commit_run.key(REPLIES)
    assert send(commit_run, ordinary(commit_run)).startswith("ok")
    commit_run.client.delete(key)
    commit_run.client.hset(key, "f", "v")
    answer = assert_nothing_happens(commit_run, ordinary(commit_run, entry=1))
    assert f"key {key} is a hash, expected a stream" in answer


@pytest.mark.parametrize("twice", ["memory:echo", "records", DONE])
def test_one_new_key_as_a_stream_and_as_something_else(commit_run: CommitRun, twice: str) -> None:
    """XADD would create it, and what follows would fail."""
    commit_run.client.delete(commit_run.key(twice))
    commit = ordinary(commit_run, twice)
    if twice == "memory:echo":
        commit.guards.pop()
        commit.same(commit_run.key(twice), b"known", None)
    assert twice in assert_nothing_happens(commit_run, commit)


@contextmanager
def user(echo: EchoRun) -> Iterator[tuple[redis.Redis, str]]:
    name = f"user-{secrets.token_hex(4)}"
    rules = ["reset", "on", ">secret", "+@all", "allkeys", "allchannels"]
    echo.client.execute_command("ACL", "SETUSER", name, *rules)
    echo.stack.callback(echo.client.execute_command, "ACL", "DELUSER", name)
    with redis.Redis.from_url(echo.url, username=name, password="secret") as client:
        yield client, name


RULES = ["-xadd", "-publish", "-xack", "-zadd", "-zscore", "-xpending", "-hget", "-hset", "-hdel"]


@pytest.mark.parametrize("rule", [*RULES, "resetchannels", f"%R~*{REPLIES}", f"%R~*{DONE}"])
def test_a_permission_is_revoked_between_two_commits(
    commit_run: CommitRun, echo: EchoRun, rule: str
) -> None:
    """Of one connection: the second commit is refused, and done when it is given back."""
    with user(echo) as (client, name):
        assert send(commit_run, ordinary(commit_run), client).startswith("ok")
        rules = [rule]
        if rule.startswith("%R"):
            others = [REQUESTS, REPLIES, DONE, "memory:echo", "records"]
            rules = ["resetkeys", rule, *(f"~*{each}" for each in others if each not in rule)]
        echo.client.execute_command("ACL", "SETUSER", name, *rules)
        before = commit_run.snapshot()
        answer = send(commit_run, ordinary(commit_run, entry=1), client)
        assert answer.split(" ")[0] in ("refused", "error"), answer
        assert "permission" in answer or "ACL" in answer
        assert commit_run.snapshot() == before
        echo.client.execute_command("ACL", "SETUSER", name, "+@all", "allkeys", "allchannels")
        assert send(commit_run, ordinary(commit_run, entry=1), client).startswith("ok")
    assert_done(commit_run, 2, entry=1)


def test_a_marked_entry_that_is_pending_is_gone(commit_run: CommitRun) -> None:
    """As after a requeue for another group: it is acknowledged, and nothing else is written."""
    commit_run.client.zadd(commit_run.key(DONE), {commit_run.entries[0]: 1})
    assert send(commit_run, ordinary(commit_run)) == "gone"
    assert commit_run.client.xpending(commit_run.key(REQUESTS), "echo")["pending"] == 2
    assert commit_run.client.xlen(commit_run.key(REPLIES)) == 0
    assert not commit_run.client.exists(commit_run.key("records"))


def test_an_entry_that_is_pending_for_another_group_only_is_gone(commit_run: CommitRun) -> None:
    """Each group owes an entry for itself."""
    client, key = commit_run.client, commit_run.key(REQUESTS)
    client.xgroup_create(key, "other", "0")
    client.xreadgroup("other", "them", {key: ">"})
    client.xack(key, "echo", commit_run.entries[0])
    before = commit_run.snapshot()
    assert send(commit_run, ordinary(commit_run)) == "gone"
    assert commit_run.snapshot() == before


def test_while_memory_is_full_it_is_done_or_nothing_is(own_echo: EchoRun) -> None:
    """The entry is acknowledged first then, if the stream has IDs left."""
    commit_run, client = made(own_echo), own_echo.client
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1mb")
    try:
        assert send(commit_run, ordinary(commit_run)).startswith("ok")
        assert_done(commit_run, 1)
        opened = Commit()
        opened.send(commit_run.key(REPLIES), commit_run.key("output"), HEADER, [b"m", b"{}"])
        before = commit_run.snapshot()
        assert send(commit_run, opened).startswith("error command not allowed when used memory")
        assert commit_run.snapshot() == before
        client.config_set("maxmemory", "0")
        add_highest(commit_run, REPLIES, "stored")
        client.config_set("maxmemory", "1mb")
        assert_nothing_happens(commit_run, ordinary(commit_run, entry=1))
    finally:
        client.config_set("maxmemory", "0")


# Behind this, XADD has a reason to fail that no server has today.
NEW_ERROR = b"""
local real = redis
local function refused(command, ...)
  return command == 'XADD' and {err = 'NEW reason'} or real.pcall(command, ...)
end
local redis = setmetatable({pcall = refused}, {__index = real})
"""


def test_an_error_that_only_a_later_server_has(commit_run: CommitRun) -> None:
    """It is the answer, and nothing is written: the replica tries again."""
    keys, arguments = ordinary(commit_run).parts()
    before = commit_run.snapshot()
    with pytest.raises(redis.ResponseError, match="NEW reason"):
        commit_run.client.eval(NEW_ERROR + SCRIPT, len(keys), *keys, *arguments)
    assert commit_run.snapshot() == before


@pytest.mark.parametrize("size", [40, 4096, 4097, 100_000])
def test_a_value_of_any_size_is_compared(commit_run: CommitRun, size: int) -> None:
    """As it is, or by its SHA-1; one byte of difference makes it stale."""
    key, value = commit_run.key("memory:echo"), b"x" * size
    commit_run.client.hset(key, "large", value)
    for stored, answer in ((value[:-1], "stale 2"), (value[:-1] + b"y", "stale 2"), (value, "ok")):
        commit_run.client.hset(key, "large", stored)
        commit = Commit()
        commit.pending(
            commit_run.key(REQUESTS), commit_run.key(DONE), "echo", commit_run.entries[0]
        )
        commit.same(key, b"large", value)
        commit.do(b"HDEL", key, b"large")
        assert send(commit_run, commit) == answer
    assert not commit_run.client.hexists(key, "large")
