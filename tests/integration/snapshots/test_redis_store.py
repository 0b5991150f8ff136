"""Snapshots in Redis: in pieces, verified, and gone an hour after a writer died."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import ConnectionLost, SnapshotError
from roomgrad.names import Names
from roomgrad.redis.connection import Connection
from roomgrad.snapshots import pieces
from roomgrad.snapshots.orphans import orphans
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.redis_store import EXPIRE_S, Call, RedisStore
from tests.integration.conftest import EchoRun, OwnServer
from tests.roomgrad_command import PYTHONPATH
from tests.waiting import until

MIB = 2**20
CONTENT = memoryview(os.urandom(40 * MIB))  # 16, 16 and 8 MiB
SMALL = memoryview(os.urandom(5000))


@pytest.fixture
def owner(echo: EchoRun) -> Owner:
    return Owner(echo.names, "model", "token1")


@pytest.fixture(params=["redis-py", "Connection"])
def call(request: pytest.FixtureRequest, echo: EchoRun) -> Iterator[Call]:
    """Both clients: one raises the errors of the server, the other one returns them."""
    if request.param == "redis-py":
        yield echo.client.execute_command
    else:
        connection = Connection(echo.url)
        connection.connect()
        yield lambda *words: connection.call(words)
        connection.close()


@pytest.fixture
def store(call: Call, owner: Owner, echo: EchoRun) -> Iterator[RedisStore]:
    yield (store := RedisStore(call, owner))
    with contextlib.suppress(ConnectionLost):
        store.delete_all()


def commit(echo: EchoRun, command: bytes, keys: list[str]) -> None:
    commit = Commit()
    for key in keys:
        commit.do(command, key)
    names, arguments = commit.parts()
    assert echo.client.register_script(SCRIPT)(names, arguments) == [b"ok"]


def pointer(place: str) -> Snapshot:
    return Snapshot(
        version="1", step=1, entry="0-0", place=place, size=len(SMALL), sha256="0" * 64, at=1.0
    )


def test_forty_mib_are_stored_in_pieces_and_read(echo: EchoRun, store: RedisStore) -> None:
    """They expire, until a commit points to them; the commit that drops the pointer deletes."""
    store.check()
    place, sha256 = store.write("7-abc", CONTENT)
    keys = store.keys(place, len(CONTENT))
    assert [echo.client.strlen(key) for key in keys] == [16 * MIB, 16 * MIB, 8 * MIB]
    assert keys[0].startswith(f"{{{echo.names.run}}}:model:model:snapshot:7-abc.")
    assert all(EXPIRE_S - 60 < echo.client.ttl(key) <= EXPIRE_S for key in keys)
    assert store.read(place, len(CONTENT), sha256) == CONTENT
    commit(echo, b"PERSIST", keys)
    assert {echo.client.ttl(key) for key in keys} == {-1}
    assert store.places() == [place]
    commit(echo, b"UNLINK", keys)
    assert store.places() == []


@pytest.mark.parametrize("size", [0, 1, pieces.PIECE_BYTES, pieces.PIECE_BYTES + 1])
def test_any_size_comes_back(store: RedisStore, size: int) -> None:
    place, sha256 = store.write("1", CONTENT[:size])
    assert len(store.keys(place, size)) == -(-size // pieces.PIECE_BYTES)
    if size:
        assert store.read(place, size, sha256) == CONTENT[:size]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_piece_is_noticed(echo: EchoRun, store: RedisStore, number: int) -> None:
    place, sha256 = store.write("1", CONTENT)
    echo.client.delete(store.keys(place, len(CONTENT))[number])
    message = "has 16,777,216|has 33,554,432" if number else "is missing: it was deleted, or"
    with pytest.raises(SnapshotError, match=message):
        store.read(place, len(CONTENT), sha256)
    store.delete(place)
    assert store.places() == []


def test_a_piece_that_is_short_or_long_is_noticed(echo: EchoRun, store: RedisStore) -> None:
    place, sha256 = store.write("1", CONTENT)
    (*_, last) = store.keys(place, len(CONTENT))
    echo.client.append(last, b"x")
    with pytest.raises(SnapshotError, match="has 41,943,041 bytes, expected 41,943,040"):
        store.read(place, len(CONTENT), sha256)
    echo.client.set(last, b"x")
    with pytest.raises(SnapshotError, match="has 33,554,433 bytes, expected 41,943,040"):
        store.read(place, len(CONTENT), sha256)


def test_a_changed_byte_is_noticed(echo: EchoRun, store: RedisStore) -> None:
    place, sha256 = store.write("1", CONTENT)
    echo.client.setrange(store.keys(place, len(CONTENT))[1], 5, bytes([CONTENT[16 * MIB + 5] ^ 1]))
    with pytest.raises(SnapshotError, match="was changed: its SHA-256"):
        store.read(place, len(CONTENT), sha256)


def test_two_pieces_that_change_places_are_noticed(echo: EchoRun, store: RedisStore) -> None:
    place, sha256 = store.write("1", CONTENT)
    one, two, last = store.keys(place, len(CONTENT))
    echo.client.rename(one, f"{last}x")
    echo.client.rename(two, one)
    echo.client.rename(f"{last}x", two)
    with pytest.raises(SnapshotError, match="was changed: its SHA-256"):
        store.read(place, len(CONTENT), sha256)
    echo.client.rename(two, one)
    echo.client.rename(last, two)
    with pytest.raises(SnapshotError, match="has 25,165,824 bytes"):
        store.read(place, len(CONTENT), sha256)


def test_any_cut_and_any_flipped_bit_of_a_piece_is_noticed(
    echo: EchoRun, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that there are in three pieces of 10, 10 and 4 bytes."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 10)
    content = SMALL[:24]
    place, sha256 = store.write("1", content)
    for number, key in enumerate(store.keys(place, 24)):
        piece = bytes(content[number * 10 : (number + 1) * 10])
        cuts = [piece[:length] for length in range(len(piece))]
        flips = [(int.from_bytes(piece) ^ 1 << bit) for bit in range(len(piece) * 8)]
        for damaged in (*cuts, *(each.to_bytes(len(piece)) for each in flips)):
            echo.client.set(key, damaged)
            with pytest.raises(SnapshotError, match=f"{place} (has|is missing|was changed)"):
                store.read(place, 24, sha256)
        echo.client.set(key, piece)
    assert store.read(place, 24, sha256) == content


def test_pieces_of_an_older_snapshot_are_noticed(echo: EchoRun, store: RedisStore) -> None:
    """Under the name of a newer one, and when the two have changed places."""
    (one, sha_1), (two, sha_2) = store.write("1", SMALL[:1000]), store.write("2", SMALL[1000:2000])
    (older,), (newer,) = store.keys(one, 1000), store.keys(two, 1000)
    echo.client.set(newer, bytes(SMALL[:1000]))
    with pytest.raises(SnapshotError, match=f"{two} was changed: .* expected {sha_2}"):
        store.read(two, 1000, sha_2)
    echo.client.set(older, bytes(SMALL[1000:2000]))
    for place, sha256 in ((one, sha_1), (two, sha_2)):
        with pytest.raises(SnapshotError, match=f"{place} was changed: .* expected {sha256}"):
            store.read(place, 1000, sha256)


def test_a_key_of_another_type_is_told(echo: EchoRun, store: RedisStore) -> None:
    place, sha256 = store.write("1", SMALL)
    (key,) = store.keys(place, len(SMALL))
    echo.client.delete(key)
    echo.client.hset(key, "a", "b")
    with pytest.raises(SnapshotError, match=r"WRONGTYPE|wrong kind of value"):
        store.read(place, len(SMALL), sha256)


def test_what_no_pointer_names_is_an_orphan(echo: EchoRun, store: RedisStore) -> None:
    """But not what is being written: it expires, until a pointer names it."""
    named, dropped, unfinished = (store.write(token, SMALL)[0] for token in ("1", "2", "3"))
    for place in (named, dropped):
        commit(echo, b"PERSIST", store.keys(place, len(SMALL)))
    assert orphans(store, lambda: [pointer(named)]) == [dropped]
    store.delete(dropped)
    assert store.places() == sorted([named, unfinished])


def test_one_component_does_not_reach_those_of_another(
    echo: EchoRun, call: Call, store: RedisStore
) -> None:
    other = RedisStore(call, Owner(echo.names, "critic", "token1"))
    place, sha256 = store.write("1", SMALL)
    theirs, _ = other.write("1", SMALL)
    with pytest.raises(SnapshotError, match="is missing"):
        other.read(place, len(SMALL), sha256)
    other.delete_all()
    assert (store.places(), other.places()) == ([place], [])
    assert theirs != place


def test_a_lost_connection_is_raised_as_it_is(own_server: OwnServer) -> None:
    """The replica connects again; nothing is wrong with the store."""
    connection = Connection(own_server.url)
    connection.connect()
    store = RedisStore(lambda *words: connection.call(words), Owner(Names("x"), "model", "t"))
    own_server.kill()
    with pytest.raises(ConnectionLost):
        store.write("1", SMALL)


@pytest.mark.parametrize("client", ["redis-py", "Connection"])
def test_a_server_whose_memory_is_full_keeps_nothing(own_echo: EchoRun, client: str) -> None:
    connection = Connection(own_echo.url)
    connection.connect()
    calls: dict[str, Call] = {
        "redis-py": own_echo.client.execute_command,
        "Connection": lambda *words: connection.call(words),
    }
    store = RedisStore(calls[client], Owner(own_echo.names, "model", "token1"))
    used = int(own_echo.client.info("memory")["used_memory"])
    own_echo.client.config_set("maxmemory-policy", "noeviction")
    own_echo.client.config_set("maxmemory", used + 24 * MIB)
    with pytest.raises(SnapshotError, match=r"memory is full: raise its maxmemory, or set .*=0"):
        store.write("1", CONTENT)
    assert store.places() == []
    place, sha256 = store.write("2", SMALL)
    own_echo.client.config_set("maxmemory", 1)
    assert store.read(place, len(SMALL), sha256) == SMALL
    store.check()  # a component starts while memory is full
    store.delete(place)
    assert store.places() == []
    connection.close()


CHILD = """
import mmap, os, resource, sys
from roomgrad.names import Names
from roomgrad.redis.server import connect
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.redis_store import RedisStore
client = connect(sys.argv[1])
store = RedisStore(client.execute_command, Owner(Names(sys.argv[2]), "model", "token1"))
"""
ENDLESS = 'store.write("1", memoryview(mmap.mmap(-1, 2**29)))'
PEAK = """
def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
content = memoryview(os.urandom(120 * 2**20))
place, sha256 = store.write("0", content[:17 * 2**20])
store.read(place, 17 * 2**20, sha256)
before = peak()
place, sha256 = store.write("1", content)
written = peak()
assert store.read(place, len(content), sha256) == content
print(written - before, peak() - before)
"""


def child(script: str, echo: EchoRun) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + script, echo.url, echo.names.run],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_writer_that_is_killed_leaves_pieces_that_expire(echo: EchoRun, owner: Owner) -> None:
    store = RedisStore(echo.client.execute_command, owner)
    process = child(ENDLESS, echo)
    (place,) = until(store.places)
    process.kill()
    process.communicate()
    keys = [key for key in store.keys(place, 2**29) if echo.client.exists(key)]
    assert 0 < len(keys) < 32
    assert all(0 < echo.client.ttl(key) <= EXPIRE_S for key in keys)
    assert orphans(store, list) == []
    store.delete_all()
    assert store.places() == []


def test_no_second_copy_of_a_snapshot_is_made(own_echo: EchoRun) -> None:
    """120 MiB are written with some pieces more, and read with as much again and some pieces."""
    output, _ = child(PEAK, own_echo).communicate(timeout=60)
    written, read = map(int, output.split())
    assert written < 64 * MIB
    assert read < (120 + 64) * MIB


def test_keys_of_other_users_of_the_server_are_no_snapshots(
    echo: EchoRun, store: RedisStore
) -> None:
    """A run is not found by the pattern of another."""
    store.write("1", SMALL)
    for run in ("*", "[a-z]*", "?" * len(echo.names.run)):
        other = RedisStore(echo.client.execute_command, Owner(Names(run), "model", "token1"))
        assert other.places() == []


def test_a_redis_error_is_no_other_error(store: RedisStore) -> None:
    assert not issubclass(SnapshotError, redis.RedisError)
    with pytest.raises(SnapshotError, match="is missing"):
        store.read("redis:nothing", 1, "0" * 64)
