"""`roomgrad backup` and `roomgrad restore` as a person calls them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands.command_line import found, refused, shown
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
    assert echo.client.hget(f"{{{run}-again}}:run", "token") == b"1"
    assert "cannot be read" in refused(echo, "restore", f"{path}.gone")
    (tmp_path / "bad").write_text("hello")
    assert "not a complete backup" in refused(echo, "restore", str(tmp_path / "bad"), code=1)
