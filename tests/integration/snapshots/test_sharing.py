"""Hosts that do not share a snapshot store notice it by a probe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.sharing import FIELD, why_not_shared
from roomgrad.snapshots.stores import open_store
from tests.integration.conftest import EchoRun


@pytest.fixture
def owner(echo: EchoRun) -> Owner:
    return Owner(echo.names, "model", "token1")


def reason(echo: EchoRun, store: FolderStore, owner: Owner, host: str, *living: str) -> str:
    return why_not_shared(store, echo.client.execute_command, owner, host, living)


def probes(folder: Path) -> list[str]:
    return [each.name for each in folder.rglob("probe-*")]


def test_hosts_with_one_store_share_it(echo: EchoRun, owner: Owner, tmp_path: Path) -> None:
    """One probe remains, however many replicas start; it is no snapshot."""
    store = open_store(tmp_path.as_uri(), owner)
    for host in ("a", "b", "a", "c"):
        assert reason(echo, store, owner, host, "a", "b") == ""
    assert len(probes(tmp_path)) == 1
    for path in tmp_path.rglob("probe-*"):
        os.utime(path, (1, 1))
    assert store.places() == store.places(older_s=1.0) == []


def test_a_store_of_another_host_is_told(echo: EchoRun, owner: Owner, tmp_path: Path) -> None:
    """The same URL leads to another folder there, which a link to another place shows here."""
    mount = tmp_path / "snapshots"
    (tmp_path / "of a").mkdir()
    (tmp_path / "of b").mkdir()
    mount.symlink_to(tmp_path / "of a")
    store = open_store(mount.as_uri(), owner)
    assert reason(echo, store, owner, "a") == ""
    mount.unlink()
    mount.symlink_to(tmp_path / "of b")
    message = f"the snapshot store {mount.as_uri()} of this host, b, is not shared with host a"
    assert reason(echo, store, owner, "b", "a").startswith(message)
    assert probes(tmp_path / "of b") == []
    assert reason(echo, store, owner, "b") == "", "host a is gone"
    assert reason(echo, store, owner, "c", "b") == ""


def test_a_host_that_is_gone_is_followed_by_one_that_shares(
    echo: EchoRun, owner: Owner, tmp_path: Path
) -> None:
    """Otherwise the next one that does not share would be told nothing."""
    mount = tmp_path / "snapshots"
    (tmp_path / "of a and b").mkdir()
    (tmp_path / "of c").mkdir()
    mount.symlink_to(tmp_path / "of a and b")
    store = open_store(mount.as_uri(), owner)
    assert reason(echo, store, owner, "a") == ""
    assert reason(echo, store, owner, "b") == "", "host a is gone"
    mount.unlink()
    mount.symlink_to(tmp_path / "of c")
    assert "is not shared with host b" in reason(echo, store, owner, "c", "b")


def test_another_url_is_told(echo: EchoRun, owner: Owner, tmp_path: Path) -> None:
    one, two = (open_store((tmp_path / name).as_uri(), owner) for name in ("one", "two"))
    assert reason(echo, one, owner, "a") == ""
    assert f"on host a stores snapshots in {one.url}, and" in reason(echo, two, owner, "b", "a")
    assert reason(echo, two, owner, "a") == "", "all replicas were started again"
    assert reason(echo, two, owner, "b", "a") == ""


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"\xff", b'{"url":1,"host":[],"name":"x"}'])
def test_a_record_that_cannot_be_read_is_replaced(
    echo: EchoRun, owner: Owner, tmp_path: Path, value: bytes
) -> None:
    store = open_store(tmp_path.as_uri(), owner)
    echo.client.hset(echo.names.model("model"), FIELD, value)
    assert reason(echo, store, owner, "a", "b") == ""
    assert reason(echo, store, owner, "b", "a") == ""
    assert len(probes(tmp_path)) == 1
