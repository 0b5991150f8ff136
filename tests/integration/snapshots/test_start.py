"""A replica whose model needs files checks its store at the start, and says what is wrong later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from roomgrad.cli import doctor
from roomgrad.errors import SettingsError
from roomgrad.inspect.doctor.findings import Finding, Level
from roomgrad.inspect.models import stored
from roomgrad.redis import heartbeats
from roomgrad.runtime import runs
from roomgrad.runtime.model import snapshotter
from roomgrad.runtime.replica import Replica
from roomgrad.snapshots.pointers import FIELD, Snapshot, from_json, to_json
from roomgrad.testing import running
from roomgrad_trebuchet.contract import TREBUCHET
from roomgrad_trebuchet.controlmodel.handlers import component as controlmodel
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.simulator.handlers import component as simulator
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.handlers import component as trainer
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.integration.conftest import QUICK, ROOT, EchoRun
from tests.waiting import until

MODEL = "controlmodel"


def settings(echo: EchoRun, folder: Path, **more: Any) -> ControlModelSettings:
    where = {"snapshot_redis_mib": 0, "snapshots": folder.as_uri(), "train_steps": 1000}
    return ControlModelSettings(run=echo.names.run, **{**QUICK, **where, **more})


def findings(echo: EchoRun) -> list[Finding]:
    """What doctor says of the model."""
    found = doctor.examine(echo.client, echo.url, echo.names.run)
    return [each for each in found if each.about == MODEL and each.level is not Level.OK]


def told(echo: EchoRun) -> str:
    return next((each.snapshots for each in heartbeats.find(echo.client, echo.names, MODEL)), "")


def test_a_store_that_cannot_be_written_is_refused_at_the_start(
    echo: EchoRun, tmp_path: Path
) -> None:
    """As a wrong setting, by the exit code too, and before the run has a model."""
    file = tmp_path / "file"
    file.touch()
    command = [sys.executable, "-m", "roomgrad_trebuchet.controlmodel"]
    command += [f"--run={echo.names.run}", f"--redis-url={echo.url}"]
    command += ["--snapshot-redis-mib=0", f"--snapshots={(file / 'x').as_uri()}"]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT / 'shared'}"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "cannot be written by user id" in ended.stderr
    assert "or name another one by ROOMGRAD_SNAPSHOTS" in ended.stderr
    assert not echo.client.exists(echo.names.model(MODEL))


def test_it_is_refused_for_a_stored_model_too(echo: EchoRun, tmp_path: Path) -> None:
    """A replica that continues a run needs the store as well as the one that began it."""
    with running(controlmodel, settings(echo, tmp_path / "ok"), echo.url):
        until(lambda: echo.client.exists(echo.names.model(MODEL)))
    (tmp_path / "file").touch()
    wrong = settings(echo, tmp_path / "file")
    with pytest.raises(SettingsError, match="cannot be written by user id"):
        Replica(controlmodel, wrong, echo.url).run()


def test_a_host_that_does_not_share_the_store_is_told(echo: EchoRun, tmp_path: Path) -> None:
    """By a log line, by its heartbeat, and by doctor; it works all the same."""
    with running(controlmodel, settings(echo, tmp_path / "one"), echo.url):
        first = until(lambda: echo.client.hget(echo.names.model(MODEL), "snapshot_probe"))
        probe = {**orjson.loads(first), "host": "elsewhere"}
        echo.client.hset(echo.names.model(MODEL), "snapshot_probe", orjson.dumps(probe))
        (beat,) = until(lambda: heartbeats.find(echo.client, echo.names, MODEL))
        assert not findings(echo)
    there = {"component": MODEL, "host": "elsewhere", "pid": 1, "turn": beat.turn + 600}
    echo.client.set(echo.names.alive(f"{MODEL}~elsewhere~1~x"), orjson.dumps(there), ex=60)
    with (
        structlog.testing.capture_logs() as logs,
        running(controlmodel, settings(echo, tmp_path / "one", snapshots=link(tmp_path)), echo.url),
    ):
        found = until(lambda: findings(echo))
        assert [each.level for each in found] == [Level.WARNING]
        assert "elsewhere stores snapshots in" in found[0].found
    assert any("elsewhere" in each.get("reason", "") for each in logs)


def test_a_host_that_cannot_load_the_model_is_told_why(echo: EchoRun, tmp_path: Path) -> None:
    """Its folder of the same name is another one: nothing is lost, but nothing is there."""
    mount = tmp_path / "mount"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    mount.symlink_to(tmp_path / "one")
    with running(controlmodel, settings(echo, mount), echo.url):
        first = until(lambda: echo.client.hget(echo.names.model(MODEL), "snapshot_probe"))
        (beat,) = until(lambda: heartbeats.find(echo.client, echo.names, MODEL))
    probe = {**orjson.loads(first), "host": "elsewhere"}
    echo.client.hset(echo.names.model(MODEL), "snapshot_probe", orjson.dumps(probe))
    there = {"component": MODEL, "host": "elsewhere", "pid": 1, "turn": beat.turn + 600}
    echo.client.set(echo.names.alive(f"{MODEL}~elsewhere~1~x"), orjson.dumps(there), ex=60)
    mount.unlink()
    mount.symlink_to(tmp_path / "two")
    with pytest.raises(SettingsError, match="is not shared with host elsewhere"):
        Replica(controlmodel, settings(echo, mount), echo.url).run()


def link(folder: Path) -> str:
    (folder / "two").symlink_to(folder / "one")
    return (folder / "two").as_uri()


def test_a_store_that_fails_later_is_told_until_it_is_mended(
    echo: EchoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on meanwhile: its steps are in the log."""
    monkeypatch.setattr(snapshotter, "RETRY_S", 0.1)
    folder = tmp_path / "store"
    more = {"run": echo.names.run, **QUICK}
    with (
        running(controlmodel, settings(echo, folder, train_steps=10**6), echo.url),
        running(simulator, SimulatorSettings(**more), echo.url),
        running(trainer, TrainerSettings(train_steps=10**6, **more), echo.url),
    ):
        until(lambda: step(echo) > 2)
        folder.rename(tmp_path / "away")
        folder.touch()
        ask(echo)
        until(lambda: "it cannot take a snapshot" in told(echo))
        assert any("cannot be written" in each.found for each in findings(echo))
        now = step(echo)
        until(lambda: step(echo) > now)
        folder.unlink()
        (tmp_path / "away").rename(folder)
        ask(echo)
        until(lambda: not told(echo))
        assert not findings(echo)
    assert stored(echo.client, echo.names, MODEL, wait_s=0).behind == 0


def step(echo: EchoRun) -> int:
    return int(echo.client.hget(echo.names.model(MODEL), "step") or 0)


def ask(echo: EchoRun) -> None:
    echo.client.hset(echo.names.model(MODEL), "wanted", "1")


def test_a_forward_that_holds_the_log_is_told(echo: EchoRun) -> None:
    """More snapshots are kept than durability needs, since an open root is older."""
    for component in TREBUCHET.components:
        runs.register(echo.client, echo.names, component, {})
    runs.create_groups(echo.client, TREBUCHET, echo.names)
    kept = [
        Snapshot(
            version=f"{step}-a", step=step, entry=f"{step}-0", place=f"redis:{step}", size=1,
            sha256="0" * 64, at=1.0,
        )
        for step in (50, 40, 30, 20)
    ]  # fmt: skip
    model = echo.names.model(MODEL)
    echo.client.hset(model, mapping={"version": "60-a", FIELD.decode(): to_json(kept[:3])})
    echo.client.hset(echo.names.kept(MODEL), mapping={"31-a:open": 1, "55-a:open": 2})
    assert not findings(echo)
    echo.client.hset(model, FIELD.decode(), to_json(kept))
    (found,) = findings(echo)
    assert (found.level, from_json(to_json(kept))) == (Level.WARNING, kept)
    assert "a forward pass at step 31 awaits its gradient" in found.found
    echo.client.hset(model, FIELD.decode(), "x")
    (found,) = findings(echo)
    assert (found.level, found.do) == (Level.PROBLEM, "roomgrad restore FILE")
