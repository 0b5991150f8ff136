"""`roomgrad model`: show a model, export its weights, import others, go back to a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import redis
from typer import Option

from roomgrad import files, weights
from roomgrad.cli import options as typed
from roomgrad.cli import output, target
from roomgrad.errors import DecodeError, SettingsError
from roomgrad.inspect import models
from roomgrad.inspect.models import Stored
from roomgrad.names import Names
from roomgrad.ops import model_state
from roomgrad.weights import MAX_FILE_BYTES


def model(
    component: typed.Component,
    export: Annotated[
        str, Option("--export", help="Write the weights into this file.", metavar="FILE")
    ] = "",
    import_: Annotated[
        str, Option("--import", help="Continue with the weights of this file.", metavar="FILE")
    ] = "",
    rollback: Annotated[
        int | None,
        typed.number("--rollback", 0, 10**15, "Continue with the checkpoint of this step."),
    ] = None,
    force: typed.Force = False,
    run: typed.AnyRun = "",
    redis: typed.Redis = "",
    as_json: typed.AsJson = False,
) -> None:
    if bool(export) + bool(import_) + (rollback is not None) > 1:
        raise SettingsError("--export, --import and --rollback: one at a time")
    with target.opened(run, redis) as (client, names, _):
        target.choose_component(client, names, component)
        if rollback is not None:
            state = model_state.roll_back(client, names, component, rollback)
        else:
            state = models.stored(client, names, component)
        if import_:
            state = _replace(client, names, component, state, import_)
    tensors = state.weights()
    if export:
        files.write(Path(export), weights.file_of(tensors), force=force)
    if as_json:
        output.print_json(_to_json(names, component, state))
        return
    if import_ or rollback is not None:
        source = import_ or f"the checkpoint of step {rollback:,}"
        output.say(f"{component} of run {names.run} continues with {source}:")
    rows = [(each.name, each.dtype, str(each.shape), len(each.data)) for each in tensors]
    output.print_table(("parameter", "dtype", "shape", "bytes"), rows)
    count = sum(len(each.data) for each in tensors)
    text = (
        f"Version {state.snapshot.version}, step {state.snapshot.step:,}; "
        f"{count:,} bytes of parameters, {state.training_bytes():,}"
        f" of the optimizer. SHA-256 {weights.sha256(tensors)}."
    )
    output.say(text)
    if state.behind:
        output.say(f"The run has taken {state.behind:,} steps since this snapshot.")
    if export:
        output.say(f"Written to {export}.")


def _replace(
    client: redis.Redis, names: Names, component: str, before: Stored, file: str
) -> Stored:
    """Replace the weights by others of the same names, dtypes and shapes, in one commit.

    The optimizer's state stays that of the newest snapshot. Return the new state.

    Raises SettingsError if the file does not fit.
    """
    try:
        tensors = weights.read(_read(file))
    except DecodeError as error:
        raise SettingsError(f"--import {file}: {error}") from error
    if reason := weights.difference(before.weights(), tensors):
        raise SettingsError(f"--import {file} does not fit {component}: {reason}")
    content = weights.replaced(before.content, tensors)
    return model_state.replace(client, names, component, content)


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(min(size, MAX_FILE_BYTES) + 1)
    except OSError as error:
        raise SettingsError(f"--import {name}: it cannot be read: {error.strerror}") from error


def _to_json(names: Names, component: str, state: Stored) -> dict[str, Any]:
    tensors = state.weights()
    return {
        "run": names.run,
        "component": component,
        "version": state.snapshot.version,
        "step": state.snapshot.step,
        "steps_behind": state.behind,
        "sha256": weights.sha256(tensors),
        "parameters": [
            {"name": each.name, "dtype": each.dtype, "shape": each.shape, "bytes": len(each.data)}
            for each in tensors
        ],
        "optimizer_bytes": state.training_bytes(),
    }
