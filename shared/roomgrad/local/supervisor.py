"""`roomgrad up` and `down`: a run that is served in the background.

A supervisor process serves the run. `launcher.json` in the run's directory says what it serves and
how far it is; the lock beside it says whether it lives.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from roomgrad import log
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.local import children
from roomgrad.local.launcher import last_words
from roomgrad.local.plan import Plan
from roomgrad.local.session import UP_S, holder, serve
from roomgrad.state import root, run_directory
from roomgrad_melody.commands.serve import check_new

STATE = "launcher.json"
DOWN_S = 40.0


def up(plan: Plan, redis_url: str, *, fresh: bool) -> tuple[bool, dict[str, Any]]:
    """Serve a run in the background. Answers whether it had to be started, and its state."""
    directory = run_directory(plan.names.run)
    pid = holder(directory)
    if pid is not None:
        state = _state(directory)
        if state.get("pid") != pid:
            return False, {"pid": pid}
        _check_same(plan, state["plan"].get("file", ""))
        return False, state
    root()
    directory.mkdir(parents=True, exist_ok=True)
    asked = {"plan": asdict(plan), "fresh": fresh, "began": time.time(), "ready": False}
    _keep(directory, asked)
    supervisor = _spawn(directory, redis_url)
    until = time.monotonic() + UP_S + 10 + sum(each["delay_s"] for each in plan.programs.values())
    while not (state := _state(directory)).get("ready"):
        if supervisor.poll() is not None:
            _fail(directory, state)
        if time.monotonic() > until:
            supervisor.terminate()
            raise RoomgradError(f"{plan.names.run} did not come up; look into {directory}")
        time.sleep(0.02)
    return True, state


def down(run: str) -> bool:
    """Stop whoever serves a run here, in the background or not; False when nobody does."""
    directory = run_directory(run)
    pid = holder(directory)
    if not pid:
        return False
    os.kill(pid, signal.SIGTERM)
    if not children.wait_gone(pid, DOWN_S):
        raise RoomgradError(f"the supervisor of {run} (process {pid}) did not stop")
    return True


def last_error(run: str) -> str:
    """What ended the run that was last served in the background; nothing if it was stopped."""
    return str(_state(run_directory(run)).get("error", ""))


def is_up(run: str) -> bool:
    """Whether somebody serves this run here."""
    return bool(holder(run_directory(run)))


def main(directory: Path) -> int:
    """The supervisor: serves what `launcher.json` says until SIGTERM."""
    log.setup()
    signal.signal(signal.SIGTERM, _interrupt)
    state = _state(directory)
    plan = Plan(**state["plan"])
    try:
        with serve(plan, "", fresh=state["fresh"], say=structlog.get_logger().warning) as session:
            check_new(session)
            session.leave_out(*plan.replaced)
            session.start(*plan.components)
            session.wait_alive(*plan.components)
            session.wait_open()
            session.start_programs()
            served = {"ready": True, "pid": os.getpid(), "server": session.server_text()}
            _keep(directory, {**state, **served, "url": session.url})
            while True:
                session.look_after()
                time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    except RoomgradError as error:
        final = isinstance(error, SettingsError | RunMismatch)
        _keep(directory, {**state, "error": str(error), "final": final})
        return 2 if final else 1


def _check_same(plan: Plan, file: str) -> None:
    """Raises RoomgradError where another swarm file, or a system, is served under this name."""
    if file != plan.file:
        raise RoomgradError(
            f"run {plan.run} is up already and serves {file or plan.run}, not "
            f"{plan.file or plan.system}: stop it with `roomgrad down --run {plan.run}`, or choose "
            "another name by --run"
        )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _spawn(directory: Path, redis_url: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "REDIS_URL": redis_url} if redis_url else dict(os.environ)
    log.shorten(directory / "supervisor.log")
    with open(directory / "supervisor.log", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "roomgrad.local.supervisor", str(directory)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _fail(directory: Path, state: dict[str, Any]) -> None:
    state = _state(directory)
    error = state.get("error") or last_words(directory / "supervisor.log")
    raise SettingsError(error) if state.get("final") else RoomgradError(error)


def _state(directory: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((directory / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state


def _keep(directory: Path, state: dict[str, Any]) -> None:
    """Only for this user's eyes: the address may hold a password."""
    partial = directory / f"{STATE}.partial"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)
    partial.replace(directory / STATE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
