"""A run is deleted with the snapshots of its models, wherever they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from roomgrad.names import Names
from roomgrad.runtime import runs
from roomgrad.snapshots import sharing
from roomgrad.snapshots.deletion import delete_all
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import FIELD, Snapshot, to_json
from roomgrad.snapshots.redis_store import RedisStore
from roomgrad.snapshots.stores import SnapshotStore, open_store
from tests.integration.conftest import EchoRun

CONTENT = memoryview(os.urandom(5000))


@pytest.fixture
def owner(echo: EchoRun) -> Owner:
    token = runs.register(echo.client, echo.names, "model", {})
    return Owner(echo.names, "model", token.decode())


def add(echo: EchoRun, *stores: SnapshotStore) -> list[str]:
    """Store a snapshot in each, and let the model point to all of them."""
    found = []
    for number, store in enumerate(stores):
        place, sha256 = store.write(str(number), CONTENT)
        found.append(
            Snapshot(
                version=str(number),
                step=number,
                entry="0-0",
                place=place,
                size=len(CONTENT),
                sha256=sha256,
                at=1.0,
            )
        )
    echo.client.hset(echo.names.model("model"), FIELD, to_json(found))
    return [each.place for each in found]


def test_a_run_is_deleted_with_its_snapshots(echo: EchoRun, owner: Owner, tmp_path: Path) -> None:
    """In Redis and in two stores, also one to which no pointer leads any more."""
    one, two = (open_store((tmp_path / name).as_uri(), owner) for name in ("one", "two"))
    other = Owner(Names(owner.names.run), "model", "another")
    theirs, _ = open_store(one.url, other).write("1", CONTENT)
    redis_store = RedisStore(echo.client.execute_command, owner)
    add(echo, redis_store, one)
    two.write("1", CONTENT)
    assert sharing.why_not_shared(two, echo.client.execute_command, owner, "a", ()) == ""
    with structlog.testing.capture_logs() as logs:
        runs.delete(echo.client, echo.names)
    assert logs == []
    assert redis_store.places() == one.places() == two.places() == []
    assert open_store(one.url, other).places() == [theirs]
    assert len([each for each in tmp_path.rglob("*") if each.is_file()]) == 1


def test_what_is_on_another_host_is_told(echo: EchoRun, owner: Owner, tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri(), owner)
    (place,) = add(echo, store)
    store.delete(place)
    with structlog.testing.capture_logs() as logs:
        runs.delete(echo.client, echo.names)
    assert [each["reason"] for each in logs] == [
        f"{place} is not on this host: delete its folder where it is"
    ]
    assert not echo.client.keys(echo.names.everything())


@pytest.mark.parametrize("value", [b"x", to_json([]).replace(b"[]", b'[{"place":1}]')])
def test_pointers_that_cannot_be_read_stop_no_deletion(
    echo: EchoRun, owner: Owner, tmp_path: Path, value: bytes
) -> None:
    store = open_store(tmp_path.as_uri(), owner)
    store.write("1", CONTENT)
    sharing.why_not_shared(store, echo.client.execute_command, owner, "a", ())
    echo.client.hset(echo.names.model("model"), FIELD, value)
    (left,) = delete_all(echo.client.execute_command, owner)
    assert "the field snapshots of the model cannot be read" in left
    assert store.places() == []


def test_no_name_in_redis_leads_out_of_the_store(echo: EchoRun, tmp_path: Path) -> None:
    """The token of a run is read from Redis, too."""
    (tmp_path / "precious").touch()
    store = tmp_path / "store"
    for token in ("/../..", "..", "a/../../..", "x\0"):
        owner = Owner(echo.names, "..", token)
        open_store(store.as_uri(), owner).delete_all()
        assert store.resolve() in (store / owner.folder.replace("\0", "")).resolve().parents
    assert (tmp_path / "precious").exists()
