"""`roomgrad check`: whether a component, in any language, returns correct gradients."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import redis
import typer
from typer import Argument, Option

from roomgrad import variables
from roomgrad.cli import arrays, output, target
from roomgrad.cli import options as typed
from roomgrad.cli.acl import declared_by
from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.local.plan import find_system, hint
from roomgrad.local.session import running_server
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.ops.check.checks import CheckResult, Checks, Floats
from roomgrad.ops.check.probe import Probe
from roomgrad.ops.check.settings import CheckSettings
from roomgrad.ops.check.streams import training_streams
from roomgrad.redis import heartbeats, registry
from roomgrad.redis.cluster import switch_run
from roomgrad.rooms import System
from roomgrad.runtime import runs
from roomgrad.schema import FORWARD, Declaration, check_gradients
from roomgrad.systems import installed, words_of

START_S = 60.0  # the first start of a component may compile


def check(
    component: Annotated[str, Argument(help="The component, like simulator.", metavar="NAME")],
    command: Annotated[
        str,
        Option(help="Its command, like 'python house.py'; that of its installed system if empty."),
    ] = "",
    run: Annotated[
        str, Option(help="Probe the one that serves this run, instead of starting one.")
    ] = "",
    system: Annotated[str, Option(help="Its system, if the run does not store a contract.")] = "",
    probes: Annotated[
        str, Option(help="Inputs to probe with: rows of this .npy file.", metavar="FILE")
    ] = "",
    count: Annotated[int, typed.number("--count", 1, 1000, "Directions that are compared.")] = 8,
    tolerance: Annotated[float, Option(help="Relative error that is allowed.", min=0)] = 0.01,
    seed: Annotated[int, typed.number("--seed", 0, 2**31, "Of inputs and directions.")] = 0,
    timeout: Annotated[float, Option(help="Seconds to wait for an answer.", min=0.1)] = 10.0,
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    settings = CheckSettings(
        component, command, run, system, probes, count, tolerance, seed, timeout
    )
    if run and command:
        raise SettingsError("--run and --command: probe one that runs, or start one")
    rows = _rows(probes)
    with running_server(redis) as (url, embedded):
        address = embedded.local_url if embedded else url.url
        with (
            target.connected(address) as (client, _),
            _running(client, settings, address) as names,
        ):
            found = list(_checked(client, names, settings, address, rows))
    passed = all(each.passed for each in found)
    if as_json:
        output.print_json({"component": component, "passed": passed, "checks": found})
    else:
        _print(component, found)
    if not passed:
        raise typer.Exit(1)


def _checked(
    client: redis.Redis, names: Names, settings: CheckSettings, url: str, rows: Floats | None
) -> Iterator[CheckResult]:
    system = _system(client, names, settings)
    declared = registry.declared_in(client, names)
    check_gradients(system, {**_rivals(system, settings.component, declared), **declared})
    streams = training_streams(system, settings.component, declared)
    with target.sender(names, url, system) as sender:
        runs.create_groups(client, system, names)
        probe = Probe(client, sender, names, settings.component, streams, settings.timeout_s)
        yield from Checks(probe, settings, rows).all()


def _rivals(
    system: System, component: str, declared: Mapping[str, Declaration]
) -> dict[str, Declaration]:
    """Return what others declare that read the messages that a component answers by gradients."""
    plugin = installed().get(system.name)
    if plugin is None or plugin.system != system or component not in declared:
        return {}
    rooms = [each for each in system.rooms if declared[component].answers_gradients(each)]
    streams = filter(None, (system.find(room, FORWARD) for room in rooms))
    rivals = {name for stream in streams for name in stream.consumers} - {component}
    words = {name: words_of(name, system.name) for name in sorted(rivals)}
    return {name: declared_by(name, each[0])[name] for name, each in words.items() if each}


def _system(client: redis.Redis, names: Names, settings: CheckSettings) -> System:
    found = (
        find_system(settings.system) if settings.system else registry.system_of_run(client, names)
    )
    if found is None:
        raise SettingsError(
            f"the contract of run {names.run} is unknown: name the system of "
            f"{settings.component} by --system"
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
def _running(client: redis.Redis, settings: CheckSettings, url: str) -> Iterator[Names]:
    """Yield the run that the component serves: the named one, or one that is deleted afterwards."""
    if settings.run:
        yield target.choose_run(client, settings.run)
        return
    names = Names(f"check-{settings.component}-{new_id()[:8]}")
    switch_run(client, names.run)
    process = _start(settings, names, url)
    try:
        _wait(client, names, settings, process)
        yield names
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        runs.delete(client, names)


def _start(settings: CheckSettings, names: Names, url: str) -> subprocess.Popen[bytes]:
    command = shlex.split(settings.command) or [sys.executable, "-m", *_words(settings)]
    environ = {**os.environ, **variables.exported(redis_url=url, run=names.run)}
    environ.setdefault(variables.variable("log_level"), "error")  # the checks provoke warnings
    try:
        return subprocess.Popen(
            [*command, f"--run={names.run}"], env=environ, stdout=subprocess.DEVNULL
        )
    except OSError as error:
        raise SettingsError(f"--command {settings.command}: {error.strerror}") from error


def _words(settings: CheckSettings) -> list[str]:
    """Return how a component of an installed system is started. Raises SettingsError."""
    names = [find_system(settings.system).name] if settings.system else list(installed())
    plugins = [installed()[name] for name in names]
    for plugin in plugins:
        if settings.component in plugin.system.components:
            return words_of(settings.component, plugin.system.name)
    known = sorted({name for plugin in plugins for name in plugin.system.components})
    raise SettingsError(
        f"no installed system has a component {settings.component!r}: "
        f"{hint(settings.component, known)} Start another one by --command, or name its run by "
        f"--run"
    )


def _wait(
    client: redis.Redis, names: Names, settings: CheckSettings, process: subprocess.Popen[bytes]
) -> None:
    """Wait for the heartbeat of the component. Raises RoomgradError."""
    until = time.monotonic() + START_S
    while not heartbeats.read(client, names, settings.component):
        if process.poll() is not None:
            raise RoomgradError(
                f"{settings.component} ended at once, with exit code {process.returncode}"
            )
        if time.monotonic() > until:
            raise RoomgradError(
                f"{settings.component} has no heartbeat after {START_S:g} s: does the command "
                f"start a component of this name?"
            )
        time.sleep(0.05)


def _print(component: str, found: Sequence[CheckResult]) -> None:
    for each in found:
        mark = ("passed  ", "green") if each.passed else ("FAILED  ", "bold red")
        output.say_marked(*mark, f"{each.name}: {each.said}")
    failed = sum(not each.passed for each in found)
    failures = f"{failed} of {len(found)} checks failed."
    output.say(failures if failed else f"{component} passed all checks.")
