"""Replaces the state of a component's model: a new version, never a changed past."""

from __future__ import annotations

import dataclasses
from typing import Any

import redis

from roomgrad.clock import ServerClock
from roomgrad.errors import ServerError
from roomgrad.inspect.models import Stored
from roomgrad.messages import new_id
from roomgrad.names import Names
from roomgrad.runtime.model.writer import SnapshotWriter, Taken
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.stores import store_of

TRIES = 200  # a training takes a step every few ms, and each changes the version


def replace(
    client: redis.Redis, names: Names, component: str, before: Stored, content: bytearray
) -> str:
    """Continue the model of a run with another state; return the new version.

    Replicas load it with their next message; gradients of open roots are still computed at the
    weights of their forward passes. Its step is the one that the run has reached.

    before: the state that is stored now; the new one is stored beside it.

    Raises ServerError if the run took a step before each attempt, and SnapshotError.
    """
    key, token = names.model(component), client.hget(names.run_info(), "token")
    owner = Owner(names, component, (token or b"").decode())  # type: ignore[union-attr]

    def call(command: Any) -> Any:
        return client.execute_command(*command)  # type: ignore[no-untyped-call]

    clock = ServerClock()
    clock.read(call)
    writer = SnapshotWriter(owner, clock, call)
    name = f"{before.snapshot.step}-{new_id()[:12]}"
    taken = Taken(name, before.snapshot.step, before.snapshot.entry, memoryview(content))
    snapshot = writer.write(taken, store_of(before.snapshot.place, client.execute_command, owner))
    for _ in range(TRIES):
        now: Any = client.hmget(key, "version", "step")
        step = int(now[1])
        version = f"{step}-{new_id()[:12]}"
        found = dataclasses.replace(snapshot, version=version, step=step)
        if writer.replace(found, now[0].decode(), step):
            return version
    raise ServerError(f"{component} took a step before each of {TRIES} attempts: try again")
