"""What comes out of a file is what went into it: every kind of key, on another server and name."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from roomgrad.errors import RoomgradError, ServerError, SettingsError
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.names import Names
from roomgrad.ops.backup.records import KeyHeader
from roomgrad.ops.backup.restore import Target, restore
from roomgrad.ops.backup.save import Saved, save
from roomgrad.ops.backup.snapshot import raw_replies
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from tests.integration.conftest import EchoRun
from tests.integration.echo import REPLIES, echo_component
from tests.waiting import until

Copy = Callable[[str], None]


@pytest.fixture(scope="module")
def client(embedded_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(embedded_url)) as found:
        yield found


@pytest.fixture
def run() -> str:
    return secrets.token_hex(6)


def put(client: redis.Redis, path: Path, run: str, *, fresh: bool = False) -> None:
    with path.open("rb") as file:
        restore(client, file, path.name, run, fresh=fresh)


def copy(client: redis.Redis, run: str, path: Path, to: str) -> Saved:
    """A run through a file into another run."""
    path.unlink(missing_ok=True)
    saved = save(client, Names(run), path)
    put(client, path, to)
    return saved


def everything(client: redis.Redis, run: str) -> dict[bytes, Any]:
    """All that a server tells of the keys of a run, by names without the run's."""
    prefix = Names(run).prefix().encode()
    raw = raw_replies(client)
    keys = [key for key in raw.keys(Names(run).everything()) if b":alive:" not in key]
    return {key.removeprefix(prefix): one(raw, key) for key in keys}


def one(raw: redis.Redis, key: bytes) -> Any:
    kind, expires = raw.type(key), raw.pexpiretime(key)
    if kind == b"hash":
        flat = raw.hgetall(key)
        return kind, expires, dict(zip(flat[::2], flat[1::2], strict=True))
    if kind == b"zset":
        return kind, expires, raw.zrange(key, 0, -1, withscores=True)
    if kind == b"string":
        return kind, expires, raw.get(key)
    about = dict(zip(*[iter(raw.execute_command("XINFO STREAM", key))] * 2, strict=True))
    known = (b"length", b"last-generated-id", b"max-deleted-entry-id", b"entries-added")
    groups = {}
    for group in raw.xinfo_groups(key):
        found = dict(zip(*[iter(group)] * 2, strict=True))
        pending = raw.xpending_range(key, found[b"name"], "-", "+", 1000)
        held = [(entry, consumer, times) for entry, consumer, _, times in pending]
        groups[found.pop(b"name")] = (found[b"last-delivered-id"], found[b"entries-read"], held)
    return kind, expires, [about[each] for each in known], raw.xrange(key), groups


# what may stand in a run

texts = st.binary(max_size=20)
scores = st.floats(allow_nan=False) | st.integers(-(2**53), 2**53).map(float)
pairs = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """What is done to a stream, one command after the other."""
    done: list[tuple[Any, ...]] = []
    ids = draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 2**64 - 1)), unique=True))
    names = [f"{high}-{low}" for high, low in sorted(ids)]
    for name in names:
        done.append(("XADD", name, *(part for pair in draw(pairs) for part in pair)))
    done.append(("XGROUP", "CREATE", draw(texts), draw(st.sampled_from(["0", "$", *names]))))
    for name in draw(st.lists(st.sampled_from(names), unique=True)) if names else ():
        done.append(("XDEL", name))
    return done


@settings(max_examples=60, deadline=None)
@given(
    hashes=st.lists(st.dictionaries(texts, texts, min_size=1), max_size=2),
    zsets=st.lists(st.dictionaries(texts, scores, min_size=1), max_size=2),
    string=texts,
    commands=st.lists(streams(), max_size=2),
    reads=st.integers(0, 5),
)
def test_whatever_stands_in_a_run_comes_back(
    client: redis.Redis,
    tmp_path_factory: pytest.TempPathFactory,
    hashes: list[dict[bytes, bytes]],
    zsets: list[dict[bytes, float]],
    string: bytes,
    commands: list[list[tuple[Any, ...]]],
    reads: int,
) -> None:
    """Any bytes, any scores, streams with holes, groups anywhere, some in somebody's hands."""
    run = secrets.token_hex(6)
    raw, prefix = raw_replies(client), Names(run).prefix()
    raw.set(f"{prefix}string", string, ex=1000)
    for number, values in enumerate(hashes):
        raw.hset(f"{prefix}table-{number}", mapping=values)
    for number, members in enumerate(zsets):
        raw.zadd(f"{prefix}ledger:{number}", members)
    for number, done in enumerate(commands):
        key = f"{prefix}room-{number}:DATA"
        for word, *rest in done:
            if word == "XGROUP":
                raw.execute_command("XGROUP", "CREATE", key, *rest[1:], "MKSTREAM")
                raw.xreadgroup(rest[1], b"\xff reader", {key: ">"}, count=reads or 1)
            else:
                raw.execute_command(word, key, *rest)
    path = tmp_path_factory.mktemp("any") / "run.backup"
    before = everything(client, run)
    copy(client, run, path, f"{run}-again")
    after = everything(client, f"{run}-again")
    for found in (before, after):  # who still holds what was deleted holds nothing
        for key, (kind, *about) in found.items():
            if kind == b"stream":
                there = {name for name, _ in about[2]}
                groups = about[3]
                about[3] = {
                    name: (last, read, [each for each in held if each[0] in there])
                    for name, (last, read, held) in groups.items()
                }
                found[key] = (kind, *about)
    assert after == before
    client.delete(*client.keys(f"{{{run}*"))


def test_the_file_is_for_its_owner_alone_and_replaces_none(
    client: redis.Redis, run: str, tmp_path: Path
) -> None:
    """And nothing else is left in its folder, also when it cannot be made."""
    client.hset(Names(run).run_info(), "token", "1")
    path = tmp_path / "run.backup"
    save(client, Names(run), path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="exists"):
        save(client, Names(run), path)
    client.rpush(f"{Names(run).prefix()}a-list", "1")
    with pytest.raises(ServerError, match="is a list"):
        save(client, Names(run), tmp_path / "other.backup")
    with pytest.raises(SettingsError, match="cannot be written"):
        save(client, Names(run), tmp_path / "nowhere" / "run.backup")
    assert os.listdir(tmp_path) == ["run.backup"]


def test_what_is_read_stood_together(client: redis.Redis, run: str, tmp_path: Path) -> None:
    """Entries, a count of them and what is in hand change in one script; in no file they differ."""
    names = Names(run)
    stream = names.stream("room", "DATA")
    client.hset(names.run_info(), "token", "1")
    client.xgroup_create(stream, "group", "0", mkstream=True)
    step = client.register_script(
        "local n = redis.call('HINCRBY', KEYS[2], 'n', 1)"
        " redis.call('XADD', KEYS[1], '*', 'n', n)"
        " redis.call('XREADGROUP', 'GROUP', 'group', 'me', 'STREAMS', KEYS[1], '>')"
        " redis.call('XTRIM', KEYS[1], 'MAXLEN', '=', 50)"
        " if n % 7 == 0 then redis.call('DEL', KEYS[3]) else"
        " redis.call('HSET', KEYS[3], n, 1) redis.call('XADD', KEYS[4] .. n % 3, '*', 'n', n) end"
        " if n % 25 == 0 then local e = redis.call('XRANGE', KEYS[1], '-', '+')"
        " redis.call('XDEL', KEYS[1], e[math.ceil(#e / 2)][1]) end"
        " for i = 5, #KEYS do redis.call('HSET', KEYS[i], 'n', n) end"
    )
    keys = [stream, names.counters("c"), names.memory("c"), names.stream("other", "DATA")]
    tables = [f"table-{number}" for number in range(500)]  # more than a server reads at once
    keys += [names.table(each) for each in tables]
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            step(keys=keys)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: int(client.hget(names.counters("c"), "n") or 0) > 100)
        for number in range(10):
            save(client, names, tmp_path / str(number))
    finally:
        over.set()
        thread.join()
    for number in range(10):
        again = Names(f"{run}-{number}")
        put(client, tmp_path / str(number), again.run)
        count = int(client.hget(again.counters("c"), "n") or 0)
        ((_, newest),) = client.xrevrange(again.stream("room", "DATA"), count=1)
        assert int(newest[b"n"]) == count
        about = client.xinfo_stream(again.stream("room", "DATA"))
        assert about["entries-added"] == count
        (group,) = client.xinfo_groups(again.stream("room", "DATA"))
        assert (group["pending"], group["lag"]) == (about["length"], 0)
        assert client.hlen(again.memory("c")) == count % 7
        assert {client.hget(again.table(each), "n") for each in tables} == {b"%d" % count}


def test_a_run_that_is_there_is_replaced_by_fresh_alone(
    client: redis.Redis, run: str, tmp_path: Path
) -> None:
    """And none whose components are running."""
    names, path = Names(run), tmp_path / "run.backup"
    client.hset(names.run_info(), "token", "1")
    save(client, names, path)
    client.hset(names.table("labels"), "later", "1")
    with pytest.raises(RoomgradError, match="exists on this server"):
        put(client, path, run)
    client.set(names.alive("trainer~x~1~2"), "{}")
    with pytest.raises(RoomgradError, match="are running"):
        put(client, path, run, fresh=True)
    assert client.hget(names.table("labels"), "later") == b"1"
    client.delete(names.alive("trainer~x~1~2"))
    put(client, path, run, fresh=True)
    assert client.keys(names.everything()) == [names.run_info().encode()]


def test_what_a_restore_leaves_behind_expires(client: redis.Redis, run: str) -> None:
    """A restore that is killed deletes nothing."""
    names = Names(run)
    target = Target(client, names, fresh=False)
    target.write(KeyHeader(b"counters:c", "hash", 1), iter([[b"number", b"1"]]))
    [key] = client.keys(f"{names.prefix()}restoring:*")
    assert client.ttl(key) > 0
    client.delete(key)


def test_who_begins_the_run_meanwhile_keeps_it(
    client: redis.Redis, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the transaction: nothing is restored, and nothing is left."""
    names, path = Names(run), tmp_path / "run.backup"
    client.hset(names.run_info(), "token", "1")
    client.hset(names.table("labels"), "a", "1")
    save(client, names, path)
    client.delete(*client.keys(names.everything()))
    check = Target.check

    def begun(target: Target) -> list[bytes]:
        found = check(target)
        if client.keys(f"{names.prefix()}restoring:*"):  # it is about to take its place
            client.hset(names.run_info(), "token", "2")
        return found

    monkeypatch.setattr(Target, "check", begun)
    with pytest.raises(ServerError, match="meanwhile"):
        put(client, path, run)
    assert client.hgetall(names.run_info()) == {b"token": b"2"}
    assert client.keys(names.everything()) == [names.run_info().encode()]


def test_a_server_that_fails_on_the_way_keeps_nothing(tmp_path: Path) -> None:
    """It is full: what was written beside the run goes again, and expires where it cannot."""
    with throwaway_server() as server, contextlib.closing(connect(server.url)) as client:
        names, path = Names("large"), tmp_path / "run.backup"
        for number in range(40):
            client.hset(names.table("weights"), str(number), os.urandom(2**18))
        client.hset(names.run_info(), "token", "1")
        save(client, names, path)
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + 2**20)
        with pytest.raises(ServerError, match=r"maxmemory.*nothing was restored"):
            put(client, path, "other")
        assert not client.keys("{other}*")


def test_another_name_is_told_to_whatever_names_the_run(echo: EchoRun, tmp_path: Path) -> None:
    """What is sent later comes in the new run, and a dead letter goes back into the new one."""
    names, again = echo.names, Names(f"{echo.names.run}-again")
    echo.start(echo_component())
    echo.add({"m": "no message"})
    until(lambda: len(echo.dead_letters()) == 1)
    body = echo.client.eval("return cmsgpack.pack(ARGV)", 0, *later(names))
    echo.client.zadd(names.later("echo"), {"1": 1})
    echo.client.hset(names.later_bodies("echo"), mapping={"count": 1, "1": body})
    place = f"{names.stream(*REPLIES.key)}"
    echo.client.hset(names.position("looker", "one"), place, "1-0 1")
    copy(echo.client, names.run, tmp_path / "run.backup", again.run)
    moved = echo.client.hget(again.later_bodies("echo"), "1")
    told = echo.client.eval("return cmsgpack.unpack(ARGV[1])", 0, moved)
    assert told == [each.encode() for each in later(again)]
    letters = DeadLetters(echo.client, again)
    (letter,) = letters.newest_first("", "")
    assert letter.stream.startswith(again.prefix())
    assert echo.client.hkeys(again.position("looker", "one")) == [
        again.stream(*REPLIES.key).encode()
    ]
    assert math.isclose(echo.client.zscore(again.later("echo"), "1"), 1)


def later(names: Names) -> list[str]:
    """A message as `commit.lua` keeps it."""
    return [
        names.stream(*REPLIES.key),
        names.channel("said"),
        "{",
        "",
        "m",
        "x" * 300,
        "n",
        "y" * 40,
    ]
