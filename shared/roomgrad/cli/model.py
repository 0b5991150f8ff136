"""`roomgrad model`: show a component's model, export its weights, import others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import redis
from typer import Option

from roomgrad import files
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.commit import SCRIPT, Commit
from roomgrad.errors import DecodeError, RoomgradError, ServerError, SettingsError
from roomgrad.inspect import weights
from roomgrad.inspect.weights import MAX_FILE_BYTES, Tensor
from roomgrad.models import ModelState
from roomgrad.names import Names

TRIES = 200  # a training takes a step every few ms, and each changes the version


def model(
    component: typed.Component,
    export: Annotated[
        str, Option("--export", help="Write the weights into this file.", metavar="FILE")
    ] = "",
    import_: Annotated[
        str, Option("--import", help="Continue with the weights of this file.", metavar="FILE")
    ] = "",
    force: typed.Force = False,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    if export and import_:
        raise SettingsError("--export and --import: one at a time")
    with target.opened(run, redis) as (client, names, _):
        target.choose_component(client, names, component)
        if import_:
            state = _replace(client, names, component, import_)
        else:
            state = _stored(client, names, component)
    tensors = weights.read(state.weights)
    if export:
        files.write(Path(export), state.weights, force=force)
    if as_json:
        output.print_json(_to_json(names, component, state, tensors))
        return
    if import_:
        output.say(f"{component} of run {names.run} continues with {import_}:")
    rows = [(each.name, each.dtype, str(each.shape), len(each.data)) for each in tensors]
    output.print_table(("parameter", "dtype", "shape", "bytes"), rows)
    count = sum(len(each.data) for each in tensors)
    text = (
        f"Version {state.version}, step {state.step:,}; {count:,} bytes of parameters, "
        f"{len(state.optimizer):,} of the optimizer. SHA-256 {weights.sha256(tensors)}."
    )
    output.say(text)
    if export:
        output.say(f"Written to {export}.")


def _stored(client: redis.Redis, names: Names, component: str) -> ModelState:
    """Return the model, all of one moment. Raises RoomgradError if there is none."""
    fields = ("version", "step", "weights", "optimizer")
    found: Any = client.hmget(names.model(component), fields)
    if None in found:
        raise RoomgradError(
            f"{component} has no model in run {names.run}: it does not learn, or has never run"
        )
    version, step, parameters, optimizer = found
    return ModelState(version.decode(), int(step), parameters, optimizer)


def _replace(client: redis.Redis, names: Names, component: str, file: str) -> ModelState:
    """Replace the weights by others of the same names, dtypes and shapes, in one commit.

    The step and the optimizer's state stay. Replicas load the weights with their next message;
    gradients of open roots are still computed at the weights of their forward.

    Raises SettingsError if the file does not fit.
    """
    stored = _read(file)
    try:
        tensors = weights.read(stored)
    except DecodeError as error:
        raise SettingsError(f"--import {file}: {error}") from error
    script = client.register_script(SCRIPT)
    for _ in range(TRIES):
        before = _stored(client, names, component)
        if reason := weights.difference(weights.read(before.weights), tensors):
            raise SettingsError(f"--import {file} does not fit {component}: {reason}")
        after = before.after(before.step, stored, before.optimizer)
        if _commit(script, names, component, before, after):
            return after
    raise ServerError(f"{component} took a step before each of {TRIES} attempts: try again")


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


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"--import {name}: it cannot be read: {error.strerror}") from error


def _to_json(
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
