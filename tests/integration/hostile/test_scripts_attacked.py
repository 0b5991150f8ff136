"""The other scripts that write: nothing is half done there either."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import redis

from roomgrad import scripts
from tests.integration.conftest import Cage
from tests.integration.hostile.stage import SAID, Stage, snapshot

LAST = "18446744073709551615"


@pytest.fixture
def stage(cage: Cage) -> Stage:
    made = Stage(cage.client, cage.names)
    made.set()
    return made


def call(client: redis.Redis, script: str, keys: list[str], *arguments: Any) -> str:
    try:
        return str(client.eval(scripts.load(script), len(keys), *keys, *arguments))  # type: ignore[arg-type]
    except redis.ResponseError as error:
        return f"error {error}"


# take: what was published by hand


def take(stage: Stage, by: redis.Redis | None = None, fields: int = 2) -> str:
    words = ["perch DATA/FORWARD i", "PUBLISH", stage.key("perch"), "{", "", *["f"] * fields]
    return call(by or stage.client, "ingest", [stage.key("taken"), stage.key(SAID)], *words)


BROKEN = {
    "the stream is a text": ("SET", SAID, "somebody's own"),
    "what was taken is a text": ("SET", "taken", "somebody's own"),
    "the stream has used up its IDs": ("XADD", SAID, f"{LAST}-{LAST}", "m", "{}"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_published_is_not_marked_as_taken_when_it_cannot_be(
    stage: Stage, broken: str
) -> None:
    """Published again when that is mended, it is taken."""
    command, name, *words = BROKEN[broken]
    kept = stage.client.dump(stage.key(name))
    if command == "SET":
        stage.client.delete(stage.key(name))
    stage.client.execute_command(command, stage.key(name), *words)
    before = stage.snapshot()
    assert take(stage).startswith("error ")
    assert stage.snapshot() == before
    stage.client.delete(stage.key(name))
    if kept:
        stage.client.restore(stage.key(name), 0, kept)
    assert "-" in take(stage)
    assert take(stage) == "None"
    assert stage.client.xlen(stage.key(SAID)) == 1


@pytest.mark.parametrize("command", ["zadd", "zremrangebyrank", "xadd", "publish", "time", "xinfo"])
def test_taking_without_a_permission(stage: Stage, cage: Cage, command: str) -> None:
    """Nothing is marked as taken."""
    with limited(cage, f"-{command}") as client:
        before = stage.snapshot()
        assert take(stage, client).startswith("error")
        assert stage.snapshot() == before


def test_taking_very_many_fields(stage: Stage) -> None:
    """More than Lua unpacks."""
    before = stage.snapshot()
    assert take(stage, fields=8000).startswith("error the message has")
    assert stage.snapshot() == before


# later: what is due


def limited(cage: Cage, *rules: str) -> redis.Redis:
    """A user that may everything but what the rules take away."""
    user = f"user-{secrets.token_hex(4)}"
    all_rules = ["reset", "on", ">secret", "+@all", "allkeys", "allchannels", *rules]
    cage.client.execute_command("ACL", "SETUSER", user, *all_rules)
    cage.stack.callback(cage.client.execute_command, "ACL", "DELUSER", user)
    return redis.Redis.from_url(cage.url, username=user, password="secret")


def due(stage: Stage, *body: Any) -> None:
    """Something that is due, as MessagePack of these strings."""
    pack = "redis.call('ZADD', KEYS[1], 1, ARGV[1]) "
    pack += "redis.call('HSET', KEYS[2], ARGV[1], cmsgpack.pack({unpack(ARGV, 2)}))"
    keys = [stage.key("later:parrot"), stage.key("later:parrot:bodies")]
    stage.client.eval(pack, 2, *keys, secrets.token_hex(8), *body)


def deliver(stage: Stage, by: redis.Redis | None = None) -> str:
    keys = [stage.key(name) for name in ("later:parrot", "later:parrot:bodies", SAID)]
    return call(by or stage.client, "delayed", keys, "PUBLISH", "100")


@pytest.mark.parametrize("command", ["zrem", "hdel", "xadd", "publish", "xinfo", "xrange"])
def test_what_is_due_is_not_delivered_again_and_again(
    stage: Stage, cage: Cage, command: str
) -> None:
    """Without the right to take it from the list it would come with every heartbeat."""
    due(stage, stage.key(SAID), stage.key("perch"), "{", "", "m", "{}")
    with limited(cage, f"-{command}") as client:
        before = stage.snapshot()
        answer = deliver(stage, client)
        assert "permission" in answer or "ACL" in answer
        assert stage.snapshot() == before
    assert deliver(stage) == "[-1, b'']"
    assert stage.client.xlen(stage.key(SAID)) == 1
    assert not stage.client.exists(stage.key("later:parrot"))


BODIES = {
    "an odd number of fields": ["", "m", "{}", "x"],
    "no fields": [""],
    "a limit that is no number": ["many", "m", "{}"],
    "more fields than Lua unpacks": ["", *["f"] * 7900],
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_cannot_be_sent_holds_up_nothing_behind_it(stage: Stage, body: str) -> None:
    """It stays, with a reason; what is due after it is delivered."""
    if len(BODIES[body]) > 1000:
        packed = "redis.call('ZADD', KEYS[1], 1, 'a') local body = {ARGV[1], ARGV[2], '{', ''} "
        packed += "for i = 1, 20000 do body[#body + 1] = 'f' end "
        packed += "redis.call('HSET', KEYS[2], 'a', cmsgpack.pack(body))"
        keys = [stage.key("later:parrot"), stage.key("later:parrot:bodies")]
        stage.client.eval(packed, 2, *keys, stage.key(SAID), stage.key("perch"))
    else:
        due(stage, stage.key(SAID), stage.key("perch"), "{", *BODIES[body])
    due(stage, stage.key(SAID), stage.key("perch"), "{", "", "m", "{}")
    assert "cannot be read" in deliver(stage)
    assert stage.client.xlen(stage.key(SAID)) == 1
    assert stage.client.zcard(stage.key("later:parrot")) == 1


def test_what_is_due_in_a_stream_without_ids(stage: Stage) -> None:
    """It waits for the key to be deleted."""
    due(stage, stage.key(SAID), stage.key("perch"), "{", "", "m", "{}")
    stage.client.xadd(stage.key(SAID), {"m": "{}"}, id=f"{LAST}-{LAST}")
    before = stage.snapshot()
    assert "used up its IDs" in deliver(stage)
    assert stage.snapshot() == before
    stage.client.delete(stage.key(SAID))
    assert deliver(stage) == "[-1, b'']"


# those that only tidy up: what they leave behind is no worse than before


@pytest.mark.parametrize("script", ["trim", "ensure_group", "heartbeat"])
def test_a_done_key_of_another_type_loses_no_message(cage: Cage, script: str) -> None:
    """Trimming, creating a group and a heartbeat leave what is owed where it is."""
    stage = Stage(cage.client, cage.names)
    stage.set()
    heard, done = stage.key("cage:DATA/FORWARD"), stage.key("done:parrot:cage:DATA/FORWARD")
    cage.client.set(done, "somebody's own")
    pending = cage.client.xpending(heard, "parrot")
    before = snapshot(cage.client, cage.names)[heard.encode()]
    if script == "trim":
        call(cage.client, "trim", [heard, stage.key("run"), done], "1", "0", "parrot")
    elif script == "ensure_group":
        assert call(cage.client, "ensure_group", [heard, done], "parrot") == "0"
    else:
        own = ("alive:me", "run", "later:parrot", "memory:parrot")
        keys = [*(stage.key(each) for each in own), heard]
        call(
            cage.client,
            "heartbeat",
            keys,
            "{}",
            "1000",
            "parrot",
            "0",
            "me",
            stage.key("alive:"),
            "1",
        )
    assert cage.client.xpending(heard, "parrot") == pending
    assert snapshot(cage.client, cage.names)[heard.encode()] == before
