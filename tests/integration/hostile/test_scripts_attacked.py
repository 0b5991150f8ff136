"""The other scripts that write: nothing is half done there either."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import redis

from roomgrad import scripts
from tests.integration.conftest import EchoRun
from tests.integration.hostile.commit_run import REPLIES, CommitRun, snapshot

LAST = "18446744073709551615"


@pytest.fixture
def commit_run(echo: EchoRun) -> CommitRun:
    made = CommitRun(echo.client, echo.names)
    made.set()
    return made


def call(client: redis.Redis, script: str, keys: list[str], *arguments: Any) -> str:
    try:
        return str(client.eval(scripts.load(script), len(keys), *keys, *arguments))  # type: ignore[arg-type]
    except redis.ResponseError as error:
        return f"error {error}"


# take: what was published by hand


def take(commit_run: CommitRun, by: redis.Redis | None = None, fields: int = 2) -> str:
    words = [
        "output DATA/FORWARD i",
        "PUBLISH",
        commit_run.key("output"),
        "{",
        "",
        "0",
        *["f"] * fields,
    ]
    return call(
        by or commit_run.client,
        "ingest",
        [commit_run.key("taken"), commit_run.key(REPLIES), commit_run.key("run")],
        *words,
    )


BROKEN = {
    "the stream is a text": ("SET", REPLIES, "somebody's own"),
    "what was taken is a text": ("SET", "taken", "somebody's own"),
    "the stream has used up its IDs": ("XADD", REPLIES, f"{LAST}-{LAST}", "m", "{}"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_published_is_not_marked_as_taken_when_it_cannot_be(
    commit_run: CommitRun, broken: str
) -> None:
    """Published again when that is mended, it is taken."""
    command, name, *words = BROKEN[broken]
    kept = commit_run.client.dump(commit_run.key(name))
    if command == "SET":
        commit_run.client.delete(commit_run.key(name))
    commit_run.client.execute_command(command, commit_run.key(name), *words)
    before = commit_run.snapshot()
    assert take(commit_run).startswith("error ")
    assert commit_run.snapshot() == before
    commit_run.client.delete(commit_run.key(name))
    if kept:
        commit_run.client.restore(commit_run.key(name), 0, kept)
    assert "-" in take(commit_run)
    assert take(commit_run) == "None"
    assert commit_run.client.xlen(commit_run.key(REPLIES)) == 1


@pytest.mark.parametrize("command", ["zadd", "zremrangebyrank", "xadd", "publish", "time", "xinfo"])
def test_taking_without_a_permission(commit_run: CommitRun, echo: EchoRun, command: str) -> None:
    """Nothing is marked as taken."""
    with limited(echo, f"-{command}") as client:
        before = commit_run.snapshot()
        assert take(commit_run, client).startswith("error")
        assert commit_run.snapshot() == before


def test_taking_very_many_fields(commit_run: CommitRun) -> None:
    """More than Lua unpacks."""
    before = commit_run.snapshot()
    assert take(commit_run, fields=8000).startswith("error the message has")
    assert commit_run.snapshot() == before


# later: what is due


def limited(echo: EchoRun, *rules: str) -> redis.Redis:
    """A user that may everything but what the rules take away."""
    user = f"user-{secrets.token_hex(4)}"
    all_rules = ["reset", "on", ">secret", "+@all", "allkeys", "allchannels", *rules]
    echo.client.execute_command("ACL", "SETUSER", user, *all_rules)
    echo.stack.callback(echo.client.execute_command, "ACL", "DELUSER", user)
    return redis.Redis.from_url(echo.url, username=user, password="secret")


def due(commit_run: CommitRun, *body: Any) -> None:
    """Something that is due, as MessagePack of these strings."""
    pack = "redis.call('ZADD', KEYS[1], 1, ARGV[1]) "
    pack += "redis.call('HSET', KEYS[2], ARGV[1], cmsgpack.pack({unpack(ARGV, 2)}))"
    keys = [commit_run.key("later:echo"), commit_run.key("later:echo:bodies")]
    commit_run.client.eval(pack, 2, *keys, secrets.token_hex(8), *body)


def deliver(commit_run: CommitRun, by: redis.Redis | None = None) -> str:
    keys = [commit_run.key(name) for name in ("later:echo", "later:echo:bodies", REPLIES)]
    return call(by or commit_run.client, "delayed", keys, "PUBLISH", "100")


@pytest.mark.parametrize("command", ["zrem", "hdel", "xadd", "publish", "xinfo", "xrange"])
def test_what_is_due_is_not_delivered_again_and_again(
    commit_run: CommitRun, echo: EchoRun, command: str
) -> None:
    """Without the right to take it from the list it would come with every heartbeat."""
    due(commit_run, commit_run.key(REPLIES), commit_run.key("output"), "{", "", "m", "{}")
    with limited(echo, f"-{command}") as client:
        before = commit_run.snapshot()
        answer = deliver(commit_run, client)
        assert "permission" in answer or "ACL" in answer
        assert commit_run.snapshot() == before
    assert deliver(commit_run) == "[-1, b'']"
    assert commit_run.client.xlen(commit_run.key(REPLIES)) == 1
    assert not commit_run.client.exists(commit_run.key("later:echo"))


BODIES = {
    "an odd number of fields": ["", "m", "{}", "x"],
    "no fields": [""],
    "a limit that is no number": ["many", "m", "{}"],
    "more fields than Lua unpacks": ["", *["f"] * 7900],
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_cannot_be_sent_holds_up_nothing_behind_it(
    commit_run: CommitRun, body: str
) -> None:
    """It stays, with a reason; what is due after it is delivered."""
    if len(BODIES[body]) > 1000:
        packed = "redis.call('ZADD', KEYS[1], 1, 'a') local body = {ARGV[1], ARGV[2], '{', ''} "
        packed += "for i = 1, 20000 do body[#body + 1] = 'f' end "
        packed += "redis.call('HSET', KEYS[2], 'a', cmsgpack.pack(body))"
        keys = [commit_run.key("later:echo"), commit_run.key("later:echo:bodies")]
        commit_run.client.eval(packed, 2, *keys, commit_run.key(REPLIES), commit_run.key("output"))
    else:
        due(commit_run, commit_run.key(REPLIES), commit_run.key("output"), "{", *BODIES[body])
    due(commit_run, commit_run.key(REPLIES), commit_run.key("output"), "{", "", "m", "{}")
    assert "cannot be read" in deliver(commit_run)
    assert commit_run.client.xlen(commit_run.key(REPLIES)) == 1
    assert commit_run.client.zcard(commit_run.key("later:echo")) == 1


def test_what_is_due_in_a_stream_without_ids(commit_run: CommitRun) -> None:
    """It waits for the key to be deleted."""
    due(commit_run, commit_run.key(REPLIES), commit_run.key("output"), "{", "", "m", "{}")
    commit_run.client.xadd(commit_run.key(REPLIES), {"m": "{}"}, id=f"{LAST}-{LAST}")
    before = commit_run.snapshot()
    assert "used up its IDs" in deliver(commit_run)
    assert commit_run.snapshot() == before
    commit_run.client.delete(commit_run.key(REPLIES))
    assert deliver(commit_run) == "[-1, b'']"


# those that only tidy up: what they leave behind is no worse than before


@pytest.mark.parametrize("script", ["trim", "ensure_group", "heartbeat"])
def test_a_done_key_of_another_type_loses_no_message(echo: EchoRun, script: str) -> None:
    """Trimming, creating a group and a heartbeat leave what is owed where it is."""
    commit_run = CommitRun(echo.client, echo.names)
    commit_run.set()
    heard, done = (
        commit_run.key("input:DATA/FORWARD"),
        commit_run.key("done:echo:input:DATA/FORWARD"),
    )
    echo.client.set(done, "somebody's own")
    pending = echo.client.xpending(heard, "echo")
    before = snapshot(echo.client, echo.names)[heard.encode()]
    if script == "trim":
        call(echo.client, "trim", [heard, commit_run.key("run"), done], "1", "0", "echo")
    elif script == "ensure_group":
        assert call(echo.client, "ensure_group", [heard, done], "echo") == "0"
    else:
        own = ("alive:me", "run", "later:echo", "memory:echo")
        keys = [*(commit_run.key(each) for each in own), heard]
        call(
            echo.client,
            "heartbeat",
            keys,
            "{}",
            "1000",
            "echo",
            "0",
            "me",
            commit_run.key("alive:"),
            "1",
        )
    assert echo.client.xpending(heard, "echo") == pending
    assert snapshot(echo.client, echo.names)[heard.encode()] == before
