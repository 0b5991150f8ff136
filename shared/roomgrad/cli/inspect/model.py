"""`roomgrad model`: what a component has learned, out of a run and into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis
from rich.text import Text

from roomgrad.cli import tables, target
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import DecodeError, RoomgradError, ServerError, SettingsError
from roomgrad.inspect import weights
from roomgrad.inspect.weights import Tensor
from roomgrad.models import ModelState
from roomgrad.names import Names

TRIES = 200  # a training takes a step every few ms, and each is another version


def run(
    component: str, export: str, import_: str, run: str, redis_url: str, *, as_json: bool
) -> None:
    """Show a model; write its weights into a file; or take those of a file."""
    if export and import_:
        raise SettingsError("--export and --import: one at a time")
    with target.reached(redis_url) as (client, _):
        names = target.chosen(client, run)
        target.component(client, names, component)
        if import_:
            state = take(client, names, component, _file(import_), import_)
        else:
            state = stored(client, names, component)
    tensors = weights.read(state.weights)
    if export:
        _write(export, state.weights)
    if as_json:
        tables.say_json(_object(names, component, state, tensors))
        return
    console = tables.console()
    if import_:
        console.print(Text(f"{component} of run {names.run} goes on with {import_}:"))
    rows = [(each.name, each.dtype, str(each.shape), len(each.data)) for each in tensors]
    console.print(tables.table(("parameter", "dtype", "shape", "bytes"), rows))
    count = sum(len(each.data) for each in tensors)
    console.print(
        Text(
            f"Version {state.version}, step {state.step:,}; {count:,} bytes of parameters, "
            f"{len(state.optimizer):,} of the optimizer. SHA-256 {weights.sha256(tensors)}."
        ),
        soft_wrap=True,
    )
    if export:
        console.print(Text(f"Written to {export}."))


def stored(client: redis.Redis, names: Names, component: str) -> ModelState:
    """The model now, all of one moment. Raises RoomgradError where there is none."""
    fields = ("version", "step", "weights", "optimizer")
    found: Any = client.hmget(names.model(component), fields)
    if None in found:
        raise RoomgradError(
            f"{component} has no model in run {names.run}: it does not learn, or has never run"
        )
    version, step, parameters, optimizer = found
    return ModelState(version.decode(), int(step), parameters, optimizer)


def take(client: redis.Redis, names: Names, component: str, file: bytes, name: str) -> ModelState:
    """Replaces the weights by others of the same names, dtypes and shapes, in one commit.

    The step and the optimizer's state stay. Replicas load the weights with their next message;
    gradients of open roots are still computed at the weights that made their forwards.

    Raises SettingsError for a file that does not fit.
    """
    try:
        tensors = weights.read(file)
    except DecodeError as error:
        raise SettingsError(f"--import {name}: {error}") from error
    script = client.register_script(SCRIPT)
    for _ in range(TRIES):
        before = stored(client, names, component)
        if reason := weights.difference(weights.read(before.weights), tensors):
            raise SettingsError(f"--import {name} does not fit {component}: {reason}")
        after = before.after(before.step, file, before.optimizer)
        if _commit(script, names, component, before, after):
            return after
    raise ServerError(f"{component} took a step each time before this could stand: try again")


def _commit(
    script: Any, names: Names, component: str, before: ModelState, after: ModelState
) -> bool:
    key = names.model(component)
    commit = Commit()
    commit.same(key, b"version", before.version.encode())
    commit.step(
        key, names.kept(component), after.version, after.step, after.weights, after.optimizer
    )
    result, *_ = script(*commit.parts())
    return bool(result == b"ok")


def _file(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(weights.MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"--import {name}: it cannot be read: {error.strerror}") from error


def _write(name: str, stored: bytes) -> None:
    try:
        Path(name).write_bytes(stored)
    except OSError as error:
        raise SettingsError(f"--export {name}: it cannot be written: {error.strerror}") from error


def _object(
    names: Names, component: str, state: ModelState, tensors: tuple[Tensor, ...]
) -> dict[str, Any]:
    return {
        "run": names.run,
        "component": component,
        "version": state.version,
        "step": state.step,
        "sha256": weights.sha256(tensors),
        "parameters": [
            {"name": each.name, "dtype": each.dtype, "shape": each.shape, "bytes": len(each.data)}
            for each in tensors
        ],
        "optimizer_bytes": len(state.optimizer),
    }
