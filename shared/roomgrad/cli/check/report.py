"""Runs the checks of a component, and shows how it did."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import redis
import typer
from rich.text import Text

from roomgrad import state
from roomgrad.cli import arrays, tables, target
from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.local import project
from roomgrad.local.plan import find_system, hint
from roomgrad.local.session import password_file, served
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.ops.check import rooms
from roomgrad.ops.check.checks import Checks, Floats, Found
from roomgrad.ops.check.probe import Probe
from roomgrad.ops.check.settings import Asked
from roomgrad.redis import registry
from roomgrad.redis.client import Client
from roomgrad.redis.cluster import go_to
from roomgrad.rooms import System
from roomgrad.runtime import runs

START_S = 60.0  # the first start of all compiles what has to be compiled


def run(asked: Asked, redis_url: str, *, as_json: bool) -> None:
    """Check, and report. Exit code 1 where something is not as it should be."""
    if asked.run and asked.command:
        raise SettingsError("--run and --command: probe one that runs, or start one")
    rows = _rows(asked.probes)
    with served(redis_url) as (url, embedded):
        address = embedded.local_url if embedded else url
        with (
            target.reached(address) as (client, _),
            _running(client, asked, address) as names,
        ):
            found = list(_checked(client, names, asked, address, rows))
    passed = all(each.passed for each in found)
    if as_json:
        tables.say_json({"component": asked.component, "passed": passed, "checks": found})
    else:
        _show(asked.component, found)
    if not passed:
        raise typer.Exit(1)


def _checked(
    client: redis.Redis, names: Names, asked: Asked, url: str, rows: Floats | None
) -> Iterator[Found]:
    system = _system(client, names, asked)
    declared = registry.declared_in(client, names)
    streams = rooms.of(system, asked.component, declared)
    for each in (streams.asked, streams.answered, streams.upstream, streams.returned):
        rooms.array(each)
    with Client(system, names.run, url, password_file(), name="roomgrad") as sender:
        runs.create_groups(client, system, names)
        probe = Probe(client, sender, names, asked.component, streams, asked.timeout_s)
        yield from Checks(probe, asked, rows).all()


def _system(client: redis.Redis, names: Names, asked: Asked) -> System:
    found = find_system(asked.system) if asked.system else registry.system_of_run(client, names)
    if found is None:
        raise SettingsError(
            f"nobody has said what the rooms of run {names.run} carry: name the system of "
            f"{asked.component} by --system"
        )
    return found


def _rows(file: str) -> Floats | None:
    if not file:
        return None
    found = arrays.read(Path(file), "--probes")
    if found.ndim < 1 or not len(found):
        raise SettingsError(f"--probes {file}: expected rows, got shape {found.shape}")
    return np.asarray(found, dtype="<f8")


@contextmanager
def _running(client: redis.Redis, asked: Asked, url: str) -> Iterator[Names]:
    """The run in which the component is: one that was named, or one of its own that ends here."""
    if asked.run:
        yield target.chosen(client, asked.run)
        return
    names = Names(f"check-{asked.component}-{new_id()[:8]}")
    go_to(client, names.run)
    process = _start(asked, names, url)
    try:
        _wait(client, names, asked, process)
        yield names
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        runs.delete(client, names)


def _start(asked: Asked, names: Names, url: str) -> subprocess.Popen[bytes]:
    command = shlex.split(asked.command)
    path = os.environ.get("PYTHONPATH", "")
    if not command:
        if known_components := _known(asked.component):
            raise SettingsError(
                f"{asked.component} is no component of this project: "
                f"{hint(asked.component, known_components)} Start another one by --command, or "
                f"name the run in which it is by --run"
            )
        path = os.pathsep.join(filter(None, [str(state.root()), path]))
        command = [sys.executable, "-m", project.module_of(asked.component)]
    environ = {**os.environ, "REDIS_URL": url, "RUN": names.run, "PYTHONPATH": path}
    environ.setdefault("LOG_LEVEL", "error")  # what is broken on purpose is no news
    try:
        return subprocess.Popen(
            [*command, f"--run={names.run}"], env=environ, stdout=subprocess.DEVNULL
        )
    except OSError as error:
        raise SettingsError(f"--command {asked.command}: {error.strerror}") from error


def _known(component: str) -> list[str]:
    """Nothing, or the components that there are."""
    there = sorted({name for each in registry.systems().values() for name in each.components})
    return [] if component in there else there


def _wait(
    client: redis.Redis, names: Names, asked: Asked, process: subprocess.Popen[bytes]
) -> None:
    until = time.monotonic() + START_S
    while not any(client.scan_iter(match=names.alive(f"{asked.component}~*"), count=1000)):
        if process.poll() is not None:
            raise RoomgradError(
                f"{asked.component} ended at once, with exit code {process.returncode}"
            )
        if time.monotonic() > until:
            raise RoomgradError(
                f"{asked.component} has no heartbeat after {START_S:g} s: did the command start a "
                f"component of this name?"
            )
        time.sleep(0.05)


def _show(component: str, found: list[Found]) -> None:
    console = tables.console()
    for each in found:
        text = Text()
        text.append(
            "passed  " if each.passed else "FAILED  ", "green" if each.passed else "bold red"
        )
        text.append(f"{each.name}: {each.said}")
        console.print(text, soft_wrap=True)
    failed = sum(not each.passed for each in found)
    some = f"{failed} of {len(found)} checks failed."
    console.print(Text(some if failed else f"{component} keeps to its rooms, and its gradients."))
