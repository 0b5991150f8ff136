"""The process that serves a run in the background."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from roomgrad.local import supervisor
from roomgrad.local.embedded import EmbeddedServer
from roomgrad.local.plan import plan_of
from roomgrad.state import server_directory
from tests.waiting import LIMIT_S


def test_it_stops_everything_although_it_is_told_to_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Linux, if the main thread of the program that it is bound to ends before the others."""
    monkeypatch.setenv("ROOMGRAD_STATE", str(tmp_path))
    monkeypatch.delenv("REDIS_URL", raising=False)
    plan = plan_of("hello")
    process = supervisor.spawn(plan, "", fresh=False)
    assert supervisor.wait_up(process, plan)["pid"] == process.pid
    server, *components = psutil.Process(process.pid).children()
    assert len(components) == 2
    while any(each.is_running() for each in components):
        process.terminate()
        time.sleep(0.001)
    assert process.wait(LIMIT_S) == 0
    assert not server.is_running()
    assert EmbeddedServer.running(server_directory()) is None
