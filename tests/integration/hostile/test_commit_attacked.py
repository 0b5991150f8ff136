"""The commit is attacked: whatever stands in its way, nothing is half done, and then it is done."""

from __future__ import annotations

import secrets

import pytest
import redis

from roomgrad.commit import Commit
from tests.integration.conftest import Cage
from tests.integration.hostile.stage import HEARD, KINDS, SAID, STREAMS, Stage

LAST = "18446744073709551615"


@pytest.fixture
def stage(cage: Cage) -> Stage:
    made = Stage(cage.client, cage.names)
    made.set()
    return made


def assert_nothing_happens(stage: Stage, *kinds: str, by: redis.Redis | None = None) -> str:
    before = stage.snapshot()
    answer = stage.try_it(by)
    assert answer.split(" ")[0] in kinds, answer
    assert stage.snapshot() == before, answer
    return answer


def test_it_does_all_of_it(stage: Stage) -> None:
    """So that what follows attacks something that works; and a second time it is gone."""
    assert stage.try_it().startswith("ok")
    stage.assert_done()
    assert_nothing_happens(stage, "gone")


@pytest.mark.parametrize("name", KINDS)
def test_a_key_of_another_type(stage: Stage, name: str) -> None:
    """Each of them, as a text, and as a set."""
    kept = stage.client.dump(stage.key(name))
    for put in (
        lambda key: stage.client.set(key, "somebody's own"),
        lambda key: stage.client.sadd(key, "member"),
    ):
        stage.client.delete(stage.key(name))
        put(stage.key(name))
        answer = assert_nothing_happens(stage, "refused", "error")
        assert name in answer or "WRONGTYPE" in answer
    stage.client.delete(stage.key(name))
    if kept:
        stage.client.restore(stage.key(name), 0, kept)
    assert stage.try_it().startswith("ok")
    stage.assert_done()


def only_to_read(name: str) -> list[str]:
    others = [f"~{{*}}:{other}" for other in KINDS if other != name]
    return ["allchannels", f"%R~{{*}}:{name}", *others]


WRITES = ["xack", "zadd", "xadd", "publish", "hset", "hdel", "hincrby", "zremrangebyrank"]
READS = ["hget", "hexists", "type", "zscore", "time", "xrange", "xinfo", "exists", "xlen"]
RULES = {
    **{f"no {command}": ["allkeys", "allchannels", f"-{command}"] for command in WRITES + READS},
    "no channel": ["allkeys", "resetchannels"],
    **{f"only to read {name}": only_to_read(name) for name in KINDS},
}


@pytest.mark.parametrize("missing", RULES)
def test_a_permission_is_taken_away(stage: Stage, cage: Cage, missing: str) -> None:
    """Each command, the channel, and each key, that may only be read."""
    user = f"user-{secrets.token_hex(4)}"
    rules = ["reset", "on", ">secret", "+@all", *RULES[missing]]
    cage.client.execute_command("ACL", "SETUSER", user, *rules)
    cage.stack.callback(cage.client.execute_command, "ACL", "DELUSER", user)
    with redis.Redis.from_url(cage.url, username=user, password="secret") as limited:
        answer = assert_nothing_happens(stage, "refused", "error", by=limited)
        assert "permission" in answer or "ACL" in answer
        cage.client.execute_command("ACL", "SETUSER", user, "allkeys", "allchannels", "+@all")
        assert stage.try_it(limited).startswith("ok")
    stage.assert_done()


CHANGED = {
    "a value under SAME": ("memory:parrot", "HSET", "known", "other"),
    "a record that was read is gone": ("memory:parrot", "HDEL", "known"),
    "a field under ABSENT": ("memory:parrot", "HSET", "new", "other"),
    "the model's version": ("model:parrot", "HSET", "version", "4-x"),
    "the model's version is gone": ("model:parrot", "HDEL", "version"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_was_read_has_changed(stage: Stage, what: str) -> None:
    """Between read and commit: it is stale, and says which guard."""
    name, command, *words = CHANGED[what]
    kept = stage.client.dump(stage.key(name)) or b""
    stage.client.execute_command(command, stage.key(name), *words)
    assert_nothing_happens(stage, "stale")
    stage.client.restore(stage.key(name), 0, kept, replace=True)
    assert stage.try_it().startswith("ok")
    stage.assert_done()


@pytest.mark.parametrize("gone", ["group", "stream", "claimed by nobody"])
def test_the_message_is_not_owed_any_more(stage: Stage, gone: str) -> None:
    """Its stream expired, its group was destroyed, or it was acknowledged by hand."""
    heard = stage.key(HEARD)
    if gone == "group":
        stage.client.xgroup_destroy(heard, "parrot")
    elif gone == "stream":
        stage.client.delete(heard)
    else:
        stage.client.xack(heard, "parrot", stage.entries[0])
    assert_nothing_happens(stage, "gone")


COUNTERS = [
    ("counters:parrot", "heard"),
    ("counters:parrot", "applied"),
    ("counters:parrot", "distinct"),
    ("later:parrot:bodies", "count"),
    ("model:parrot:kept", "3-a:open"),
    ("model:parrot:kept", "2-b:open"),
]
NO_COUNTS = ["many", "", " 1", "+5", "007", "-0", "1.5", "1e3", "0x10", "nan", "1\0"]
NO_COUNTS += [str(2**63 - 1), str(-(2**63)), "9" * 16]


@pytest.mark.parametrize(("name", "counter"), COUNTERS)
def test_a_counter_that_cannot_be_counted_on(stage: Stage, name: str, counter: str) -> None:
    """HINCRBY fails for it, or would soon: no number, one written otherwise, or at the end."""
    key = stage.key(name)
    before = stage.client.hget(key, counter)
    for value in NO_COUNTS:
        stage.client.hset(key, counter, value)
        answer = assert_nothing_happens(stage, "refused")
        assert counter in answer
    if before is None:
        stage.client.hdel(key, counter)
    else:
        stage.client.hset(key, counter, before)
    assert stage.try_it().startswith("ok")
    stage.assert_done()


@pytest.mark.parametrize(
    "by", ["1" + "0" * 30, "-1" + "0" * 30, str(2**63), "many", "1.5", "", "007"]
)
def test_a_counter_cannot_grow_by_anything(stage: Stage, by: str) -> None:
    """The commit itself is wrong: nobody could mend the server for it."""
    commit = Commit()
    commit.pending(stage.key(HEARD), stage.key("done"), "parrot", stage.entries[0])
    commit.do(b"HINCRBY", stage.key("counters:parrot"), b"heard", by.encode())
    before = stage.snapshot()
    assert stage.send(*commit.parts()).startswith("wrong")
    assert stage.snapshot() == before


def test_a_model_that_lost_its_weights(stage: Stage) -> None:
    """Its version is there, and there is nothing to keep for those who need it."""
    stage.client.hdel(stage.key("model:parrot"), "weights")
    assert "no weights" in assert_nothing_happens(stage, "refused")
    stage.client.hset(stage.key("model:parrot"), "weights", "w3")
    assert stage.try_it().startswith("ok")
    stage.assert_done()


@pytest.mark.parametrize("how", ["stands", "last but some", "deleted", "deleted, last", "XSETID"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_has_used_up_its_ids(stage: Stage, name: str, how: str) -> None:
    """Somebody XADDed the highest ID: the server would take no entry after it."""
    client, key = stage.client, stage.key(name)
    grouped = bool(client.exists(key))
    highest = f"{LAST}-{LAST if how != 'last but some' else 7}"
    if how != "deleted, last":
        client.xadd(key, {"m": "{}"})
    if how == "XSETID":
        client.execute_command("XSETID", key, highest)
        if grouped:  # somebody read up to there
            client.xgroup_setid(key, "parrot", highest)
    else:
        client.xadd(key, {"m": "{}"}, id=highest)
        if grouped:
            client.xreadgroup("parrot", "me", {key: ">"})
            client.xack(key, "parrot", highest)
        if how.startswith("deleted"):
            client.xdel(key, highest)
    assert "used up its IDs" in assert_nothing_happens(stage, "refused")
    client.delete(key)
    if grouped:
        client.xgroup_create(key, "parrot", "0", mkstream=True)
    assert stage.try_it().startswith("ok")
    stage.assert_done()


@pytest.mark.parametrize("count", [7002, 7998, 8000, 100_000])
@pytest.mark.parametrize("how", ["SEND", "LATER", "XADD", "HSET"])
def test_more_arguments_than_lua_unpacks(stage: Stage, how: str, count: int) -> None:
    """Unpacking them would fail after the first write."""
    commit, many = Commit(), [b"f"] * count
    commit.pending(stage.key(HEARD), stage.key("done"), "parrot", stage.entries[0])
    if how == "SEND":
        commit.send(stage.key(SAID), "ring", b"", many)
    elif how == "LATER":
        dues = (stage.key("later:parrot"), stage.key("later:parrot:bodies"))
        commit.later(*dues, 1.0, stage.key(SAID), "ring", b"", many)
    elif how == "XADD":
        commit.do(b"XADD", stage.key("dead"), b"*", *many)
    else:
        commit.do(b"HSET", stage.key("sayings"), *many)
    before = stage.snapshot()
    assert stage.send(*commit.parts()).startswith("wrong")
    assert stage.snapshot() == before


def test_very_many_writes(stage: Stage) -> None:
    """A hundred thousand are done as one; above a million are refused by their number."""
    commit = Commit()
    commit.pending(stage.key(HEARD), stage.key("done"), "parrot", stage.entries[0])
    for number in range(100_000):
        commit.do(b"HSET", stage.key("sayings"), b"%d" % number, b"1")
    keys, arguments = commit.parts()
    before = stage.snapshot()
    at = arguments.index(b"100000")
    too_many = [*arguments[:at], b"1000001", *arguments[at + 1 :]]
    assert stage.send(keys, too_many).startswith("wrong")
    assert stage.snapshot() == before
    assert stage.send(keys, arguments).startswith("ok")
    assert stage.client.hlen(stage.key("sayings")) == 100_000


def test_arguments_that_are_cut_anywhere(stage: Stage) -> None:
    """By a client that somebody else wrote: at every place, and without each of the keys."""
    keys, arguments = stage.commit().parts()
    before = stage.snapshot()
    for count in range(len(arguments)):
        answer = stage.send(keys, arguments[:count])
        assert not answer.startswith("ok"), count
        assert stage.snapshot() == before, (count, answer)
    for count in range(len(keys)):
        answer = stage.send(keys[:count], arguments)
        assert stage.snapshot() == before, (count, answer)
    answer = stage.send(keys, [*arguments, b"more"])
    assert answer.startswith("wrong")
    assert stage.snapshot() == before


RUBBISH = [b"", b"-1", b"2", b"1.5", b"nan", b"9" * 400]


def test_any_argument_that_is_replaced_by_rubbish(stage: Stage) -> None:
    """It is done whole, as it was asked for, or nothing happens."""
    keys, arguments = stage.commit().parts()
    before = stage.snapshot()
    done = 0
    for at in range(len(arguments)):
        for rubbish in RUBBISH:
            answer = stage.send(keys, [*arguments[:at], rubbish, *arguments[at + 1 :]])
            if answer.startswith("ok"):  # a name, a text or a number was replaced by another
                done += 1
                stage.set()
                keys, arguments = stage.commit().parts()
                before = stage.snapshot()
            else:
                assert stage.snapshot() == before, (at, arguments[at], rubbish, answer)
    assert done > 30
