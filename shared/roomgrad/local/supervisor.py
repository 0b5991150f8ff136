"""`roomgrad up` and `down`: a run that is served in the background.

A supervisor process serves the run. `launcher.json` in the run's directory says what it serves and
whether all of it has started; the lock beside it says whether the supervisor lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import structlog

from roomgrad import log, variables
from roomgrad.errors import RoomgradError, RunMismatch, SettingsError
from roomgrad.local import children
from roomgrad.local.launcher import last_line
from roomgrad.local.plan import Plan
from roomgrad.local.session import LOCK, UP_S, serve, serving_process
from roomgrad.state import opened, run_directory, state_directory, writing

STATE = "launcher.json"
DOWN_S = 40.0


def up(plan: Plan, redis_url: str, *, fresh: bool) -> tuple[bool, dict[str, Any]]:
    """Serve a run in the background; return whether it was started now, and its state.

    Raises RoomgradError if it does not start, SettingsError if its settings are wrong.
    """
    directory = run_directory(plan.run)
    pid = serving_process(directory)
    if pid is not None:
        state = _state(directory)
        if state.get("pid") != pid:  # it is served in the foreground
            return False, {"pid": pid}
        _check_same(plan, state["plan"].get("file", ""))
        return False, state
    supervisor = spawn(plan, redis_url, fresh=fresh)
    return True, wait_up(supervisor, plan)


def spawn(
    plan: Plan, redis_url: str, *, fresh: bool, bound: bool = False
) -> subprocess.Popen[bytes]:
    """Start the supervisor of a run.

    bound: on Linux, it ends with the thread that calls this, also if that is killed.
    """
    directory = run_directory(plan.run)
    _write(directory, {"plan": asdict(plan), "fresh": fresh, "ready": False})
    environ = {**os.environ, **variables.exported(redis_url=redis_url)}
    path = directory / "supervisor.log"
    log.shorten(path)
    command = [sys.executable, "-m", "roomgrad.local.supervisor", str(directory)]
    with opened(path, "ab") as output:
        return subprocess.Popen(
            children.bound_to_parent(command) if bound else command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def wait_up(supervisor: subprocess.Popen[bytes], plan: Plan) -> dict[str, Any]:
    """Wait until all of a run has started; return its state.

    Raises RoomgradError if it does not start, SettingsError if its settings are wrong.
    """
    directory = run_directory(plan.run)
    until = time.monotonic() + UP_S + 10 + sum(each["delay_s"] for each in plan.programs.values())
    while not (state := _state(directory)).get("ready"):
        if supervisor.poll() is not None:
            _fail(directory)
        if time.monotonic() > until:
            supervisor.terminate()
            raise RoomgradError(f"{plan.run} did not come up; look into {directory}")
        time.sleep(0.02)
    return state


def down(run: str) -> bool:
    """Stop the process that serves a run on this machine; False if none does."""
    pid = serving_process(run_directory(run))
    if not pid:
        return False
    os.kill(pid, signal.SIGTERM)
    if not children.wait_gone(pid, DOWN_S):
        raise RoomgradError(f"the supervisor of {run} (process {pid}) did not stop")
    return True


def served_runs() -> list[str]:
    """Return the runs that are served from this state folder now."""
    locks = sorted(state_directory().glob(f"*/{LOCK}"))
    return [unquote(each.parent.name) for each in locks if serving_process(each.parent)]


def last_error(run: str) -> str:
    """Return what ended the run that was last served in the background; empty if it was stopped."""
    return str(_state(run_directory(run)).get("error", ""))


def main(directory: Path) -> int:
    """Serve what `launcher.json` says until SIGTERM; return the exit code."""
    log.setup()
    signal.signal(signal.SIGTERM, _interrupt)
    state = _state(directory)
    plan = Plan(**state["plan"])
    try:
        with serve(plan, "", fresh=state["fresh"], say=structlog.get_logger().warning) as session:
            session.start_all()
            served = {"ready": True, "pid": os.getpid(), "server": session.server_name()}
            _write(directory, {**state, **served, "url": str(session.url), "began": session.began})
            while True:
                session.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        return 0
    except RoomgradError as error:
        final = isinstance(error, SettingsError | RunMismatch)
        structlog.get_logger().error(str(error))  # also where the state cannot be written
        with contextlib.suppress(RoomgradError):
            _write(directory, {**state, "error": str(error), "final": final})
        return 2 if final else 1


def _check_same(plan: Plan, file: str) -> None:
    """Raise RoomgradError if another swarm file, or a system, is served under this name."""
    if file != plan.file:
        raise RoomgradError(
            f"run {plan.run} is up already and serves {file or plan.run}, not "
            f"{plan.file or plan.system}: stop it with `roomgrad down --run {plan.run}`, or choose "
            "another name by --run"
        )


def _interrupt(*_: object) -> None:
    """Stop at the first signal; the others must not interrupt what stops the run."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    raise KeyboardInterrupt


def _fail(directory: Path) -> None:
    """Raise what ended the supervisor before all of the run had started."""
    state = _state(directory)
    error = state.get("error") or last_line(directory / "supervisor.log")
    raise SettingsError(error) if state.get("final") else RoomgradError(error)


def _state(directory: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((directory / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state


def _write(directory: Path, state: dict[str, Any]) -> None:
    """Write the state, which only this user can read."""
    partial, flags = directory / f"{STATE}.partial", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with writing(directory / STATE):
        with os.fdopen(os.open(partial, flags, 0o600), "w") as file:
            json.dump(state, file)
        partial.replace(directory / STATE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
