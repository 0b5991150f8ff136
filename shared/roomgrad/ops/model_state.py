"""Says which states of a model stay, and replaces its state: a new version, no changed past."""

from __future__ import annotations

import dataclasses
from typing import Any

import redis

from roomgrad.clock import ServerClock
from roomgrad.errors import ServerError, SettingsError
from roomgrad.inspect import models
from roomgrad.inspect.checkpoints import find
from roomgrad.inspect.models import Stored
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.runtime.model.writer import SnapshotWriter, Taken
from roomgrad.snapshots import checkpoints, pointers
from roomgrad.snapshots.checkpoints import Policy
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.stores import store_of

TRIES = 200  # a training takes a step every few ms, and each changes the version


def keep(client: redis.Redis, names: Names, component: str, policy: Policy | None) -> None:
    """Keep checkpoints of a model by a policy from now on; without one, those that are kept stay.

    Raises RoomgradError if the component has no model.
    """
    models.fields(client, names, component)
    key, field = names.model(component), checkpoints.FIELD.decode()
    if policy is None:
        client.hdel(key, field)
    else:
        client.hset(key, field, checkpoints.to_json(policy))


def roll_back(client: redis.Redis, names: Names, component: str, step: int) -> Stored:
    """Continue the model of a run with the state of a checkpoint, as `replace` does; return it.

    Raises SettingsError if no checkpoint of this step is kept, SnapshotError if it cannot be read,
    and ServerError.
    """
    kept = find(client, names, component).checkpoints
    checkpoint = next((each for each in kept if each.step == step), None)
    if checkpoint is None:
        steps = ", ".join(f"{each.step:,}" for each in reversed(kept))
        raise SettingsError(
            f"--rollback {step}: {component} has no checkpoint of this step, but of {steps}"
            if kept
            else f"--rollback {step}: {component} has no checkpoint; `roomgrad keep {component} "
            f"--every 100` keeps some from now on"
        )
    content = models.read(client, names, component, checkpoint)
    return replace(client, names, component, content)


def replace(client: redis.Redis, names: Names, component: str, content: bytearray) -> Stored:
    """Continue the model of a run with another state; return it.

    Replicas load it with their next message; gradients of open roots are still computed at the
    weights of their forward passes. Its step is the one that the run has reached, and its bytes are
    stored beside the newest snapshot.

    Raises ServerError if the run took a step before each attempt, and SnapshotError.
    """
    key, token = names.model(component), client.hget(names.run_info(), "token")
    owner = Owner(names, component, (token or b"").decode())  # type: ignore[union-attr]

    def call(command: Any) -> Any:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]

    clock = ServerClock()
    clock.read(call)
    writer = SnapshotWriter(owner, clock, call)
    newest, *_ = pointers.from_json(models.fields(client, names, component, pointers.FIELD)[1])
    taken = Taken(new_id()[:12], newest.step, newest.entry, memoryview(content))
    snapshot = writer.write(taken, store_of(newest.place, client.execute_command, owner))
    for _ in range(TRIES):
        now: Any = client.hmget(key, "version", "step")
        step = int(now[1])
        version = f"{step}-{new_id()[:12]}"
        found = dataclasses.replace(snapshot, version=version, step=step)
        if writer.replace(found, now[0].decode(), step):
            return Stored(found, content, behind=0)
    raise ServerError(f"{component} took a step before each of {TRIES} attempts: try again")
