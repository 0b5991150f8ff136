"""`roomgrad backup` and `roomgrad restore` as a person calls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands.calling import found, refused, shown
from tests.integration.conftest import Cage, make_cage


@pytest.fixture
def cage(embedded_url: str) -> Iterator[Cage]:
    yield from make_cage(embedded_url)


def test_a_run_goes_into_a_file_and_back(cage: Cage, tmp_path: Path) -> None:
    """By its name, by another one, and every mistake is a sentence."""
    path, run = str(tmp_path / "run.backup"), cage.names.run
    cage.client.hset(cage.names.run_info(), "token", "1")
    saved = found(cage, "backup", path)
    assert (saved["run"], saved["keys"], saved["items"]) == (run, 1, 1)
    assert "exists" in refused(cage, "backup", path)
    assert "exists on this server" in refused(cage, "restore", path, code=1)
    assert f"Run {run} stands as {run} did on " in shown(cage, "restore", path, "--fresh")
    again = found(cage, "restore", path, "--run", f"{run}-again")
    assert (again["run"], again["backup_of"]) == (f"{run}-again", run)
    assert cage.client.hget(f"{{{run}-again}}:run", "token") == b"1"
    assert "cannot be read" in refused(cage, "restore", f"{path}.gone")
    (tmp_path / "bad").write_text("hello")
    assert "not a complete backup" in refused(cage, "restore", str(tmp_path / "bad"), code=1)
