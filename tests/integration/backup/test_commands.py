"""`roomgrad backup` and `roomgrad restore` as a person calls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from roomgrad.snapshots import pointers
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.stores import open_store
from tests.integration.commands.command_line import call, found, refused, shown
from tests.integration.conftest import EchoRun, make_echo_run


@pytest.fixture
def echo(embedded_url: str) -> Iterator[EchoRun]:
    yield from make_echo_run(embedded_url)


def test_a_run_goes_into_a_file_and_back(echo: EchoRun, tmp_path: Path) -> None:
    """By its name, by another one, and every mistake is a sentence."""
    path, run = str(tmp_path / "run.backup"), echo.names.run
    echo.client.hset(echo.names.run_info(), "token", "1")
    saved = found(echo, "backup", path)
    assert (saved["run"], saved["keys"], saved["items"]) == (run, 1, 1)
    assert "exists" in refused(echo, "backup", path)
    shown(echo, "backup", path, "--force")
    assert "exists on this server" in refused(echo, "restore", path, code=1)
    assert f"Run {run} is restored to the state of {run} on " in shown(
        echo, "restore", path, "--fresh"
    )
    again = found(echo, "restore", path, "--run", f"{run}-again")
    assert (again["run"], again["backup_of"]) == (f"{run}-again", run)
    token = echo.client.hget(f"{{{run}-again}}:run", "token")
    assert token not in (None, b"1")  # which snapshots of models in files are told apart by
    assert "cannot be read" in refused(echo, "restore", f"{path}.gone")
    (tmp_path / "bad").write_text("hello")
    assert "not a complete backup" in refused(echo, "restore", str(tmp_path / "bad"), code=1)


def test_the_settings_of_the_restoring_side_say_where_snapshots_go(
    echo: EchoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a snapshot that is missing is told, beside the answer."""
    token, path, content = "1", str(tmp_path / "run.backup"), memoryview(b"abc")
    info = {"token": token, "settings:model": "{}"}
    echo.client.hset(echo.names.run_info(), mapping=info)
    store = open_store((tmp_path / "one").as_uri(), Owner(echo.names, "model", token))
    pointed = []
    for step in (2, 1):
        place, sha256 = store.write(f"{step}-a", content)
        more = {"place": place, "size": 3, "sha256": sha256, "at": 1.0}
        pointed.append(Snapshot(version=f"{step}-a", step=step, entry="0-0", **more))
    echo.client.hset(echo.names.model("model"), pointers.FIELD, pointers.to_json(pointed))
    store.delete(pointed[0].place)
    ended = call(echo, "backup", path)
    assert ended.returncode == 0
    assert f"{pointed[0].place} is missing" in ended.stderr
    (tmp_path / "one").rename(tmp_path / "volume")  # as this host calls the folder of a container
    assert "no snapshot of model" in refused(echo, "backup", path, "--force", code=1)
    monkeypatch.setenv("ROOMGRAD_SNAPSHOTS", (tmp_path / "volume").as_uri())
    assert call(echo, "backup", path, "--force").returncode == 0
    monkeypatch.setenv("ROOMGRAD_SNAPSHOTS", (tmp_path / "two").as_uri())
    monkeypatch.setenv("ROOMGRAD_SNAPSHOT_REDIS_MIB", "0")
    shown(echo, "restore", path, "--run", f"{echo.names.run}-again")
    [file] = (tmp_path / "two").rglob("*.snapshot")
    assert file.read_bytes() == content
    value = echo.client.hget(f"{{{echo.names.run}-again}}:model:model", pointers.FIELD)
    assert [each.place for each in pointers.from_json(value)] == [file.as_uri()]
