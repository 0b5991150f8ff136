"""The user of a learning component may reach the snapshots of its model, and no other's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
import redis

from roomgrad.codec import pack
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import SnapshotError
from roomgrad.names import Names
from roomgrad.ops import acl
from roomgrad.redis.server import connect
from roomgrad.schema import Declaration
from roomgrad.snapshots.checkpoints import Policy
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Score
from roomgrad.snapshots.redis_store import RedisStore
from roomgrad.testing import throwaway_server
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.simulator.handlers import component as simulator

NAMES = Names("trebuchet")
CONTENT = memoryview(b"state" * 1000)
PIECE = NAMES.snapshot_piece("controlmodel", "1", 0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with the users of both components."""
    with throwaway_server() as server, contextlib.closing(connect(server.url)) as client:
        for component in (controlmodel, simulator):
            declared = Declaration.of(component)
            grants = acl.of_component(TREBUCHET, component.name, declared, NAMES, ["losses"])
            words = re.findall(r"\([^)]*\)|\S+", grants.rules())
            client.execute_command("ACL", "SETUSER", component.name, "on", ">secret", *words)
        yield server.url


@contextlib.contextmanager
def logged_in(url: str, user: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(url.replace("//", f"//{user}:secret@"))) as client:
        yield client


def test_the_learning_component_does_what_it_needs(url: str) -> None:
    with logged_in(url, "controlmodel") as client, contextlib.closing(connect(url)) as admin:
        store = RedisStore(client.execute_command, Owner(NAMES, "controlmodel", "t"))
        store.check()
        place, sha256 = store.write("1", CONTENT)
        for command in (b"PERSIST", b"UNLINK"):
            assert store.read(place, len(CONTENT), sha256) == CONTENT
            commit = Commit()
            commit.do(b"HSET", NAMES.model("controlmodel"), b"snapshots", b"[]")
            for key in store.keys(place, len(CONTENT)):
                commit.do(command, key)
            keys, arguments = commit.parts()
            assert client.register_script(SCRIPT)(keys, arguments) == [b"ok"]
            assert len(store.places(older_s=1.0)) == (command == b"PERSIST")
        store.delete_all()
        assert admin.execute_command("ACL", "LOG") == []


def test_it_reads_the_metric_of_the_best_checkpoint(url: str) -> None:
    policy = Policy(every=10, last=1, best="losses.loss")
    with logged_in(url, "controlmodel") as client, contextlib.closing(connect(url)) as admin:
        admin.hset(NAMES.table("losses"), "7", pack({"loss": 0.5}))
        assert policy.score(client.execute_command, NAMES, []) == Score(
            metric="losses.loss", mean=0.5, record=7
        )
    with logged_in(url, "simulator") as client, pytest.raises(SnapshotError, match="refuses"):
        policy.score(client.execute_command, NAMES, [])


FORBIDDEN = [
    ("controlmodel", ["HSET", "{trebuchet}:losses", "7", "x"]),
    ("controlmodel", ["GET", "{trebuchet}:model:simulator:snapshot:1:0"]),
    ("controlmodel", ["SET", "{trebuchet}:model:simulator:snapshot:1:0", "x"]),
    ("controlmodel", ["SET", "{trebuchet}:model:controlmodel", "x"]),
    ("controlmodel", ["SET", "{trebuchet}:model:controlmodel:snapshots", "x"]),
    ("controlmodel", ["UNLINK", "{trebuchet}:model:controlmodel"]),
    ("controlmodel", ["RENAME", PIECE, f"{PIECE}1"]),
    ("controlmodel", ["APPEND", PIECE, "x"]),
    ("controlmodel", ["HSET", PIECE, "a", "b"]),
    *[("simulator", [command, PIECE]) for command in ("GET", "UNLINK", "STRLEN", "PERSIST")],
    ("simulator", ["SET", PIECE, "x"]),
]


@pytest.mark.parametrize(("user", "command"), FORBIDDEN, ids=lambda each: " ".join(each)[:60])
def test_what_it_does_not_need_is_forbidden(url: str, user: str, command: list[str]) -> None:
    with logged_in(url, user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_a_user_without_the_rules_is_told_at_the_start(url: str) -> None:
    with logged_in(url, "simulator") as client:
        store = RedisStore(client.execute_command, Owner(NAMES, "controlmodel", "t"))
        with pytest.raises(SnapshotError, match=r"refuses .*needs the rules that `roomgrad acl`"):
            store.check()
