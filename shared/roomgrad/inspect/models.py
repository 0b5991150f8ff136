"""The state of a component's model, read from its newest snapshot."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from roomgrad import weights
from roomgrad.errors import RoomgradError, SnapshotError
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.runtime.model.writer import WANTED
from roomgrad.snapshots import pointers
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.stores import store_of
from roomgrad.tensor_files import is_training_state
from roomgrad.weights import Tensor

WAIT_S = 10.0  # for a replica to take it
POLL_S = 0.05


@dataclass(frozen=True)
class Stored:
    """A model as its newest snapshot has it."""

    snapshot: Snapshot
    content: bytearray
    behind: int
    """How many steps the run has taken since."""

    def weights(self) -> tuple[Tensor, ...]:
        """Return parameters and buffers, sorted by name."""
        return weights.only(self._tensors())

    def training_bytes(self) -> int:
        """Return how many bytes the state has beside its weights."""
        return sum(len(t.data) for t in self._tensors() if is_training_state(t.name))

    def _tensors(self) -> Sequence[Tensor]:
        return weights.read(self.content)


def stored(client: redis.Redis, names: Names, component: str, *, wait_s: float = WAIT_S) -> Stored:
    """Return the state of a model, after asking a living replica for a snapshot of now.

    wait_s: how long to wait for it; the newest snapshot of before serves without.

    Raises RoomgradError if the component has no model, and SnapshotError if no snapshot can be
    read.
    """
    version, found = _pointers(client, names, component)
    if not found or found[0].version != version:
        found = _newer(client, names, component, found, wait_s)
    reason = "no snapshot of it is stored"
    tried: list[Snapshot] = []
    while found != tried:  # others may replace them while they are read
        for snapshot in found:
            try:
                content = read(client, names, component, snapshot)
            except SnapshotError as error:
                reason = (
                    f"{error}; go back to a checkpoint by `roomgrad model {component} --rollback "
                    f"STEP`, or restore a backup by `roomgrad restore`"
                )
                continue
            step = _step(client, names.model(component))
            return Stored(snapshot, content, max(0, step - snapshot.step))
        tried, (_, found) = found, _pointers(client, names, component)
    raise SnapshotError(f"the model of {component} in run {names.run} cannot be read: {reason}")


def _newer(
    client: redis.Redis, names: Names, component: str, found: list[Snapshot], wait_s: float
) -> list[Snapshot]:
    """Ask a replica for a snapshot, and wait for it; return what there is in the end."""
    key, until = names.model(component), time.monotonic() + wait_s
    if not heartbeats.living(client, names)[component]:
        return found
    step, newest, asked = _step(client, key), found, False
    while time.monotonic() < until:
        version, now = _pointers(client, names, component)
        if now and (now[0].version == version or (now[:1] != found[:1] and now[0].step >= step)):
            return now
        if not asked or now[:1] != newest[:1]:  # one that was begun before ends the wish, too
            newest, asked = now, True
            try:
                client.hset(key, WANTED.decode(), "1")
            except redis.ResponseError:  # this user only reads
                return now
        time.sleep(POLL_S)
    return newest


def _step(client: redis.Redis, key: str) -> int:
    step: Any = client.hget(key, "step")
    return int(step or 0)


def _pointers(client: redis.Redis, names: Names, component: str) -> tuple[str, list[Snapshot]]:
    version, value = fields(client, names, component, pointers.FIELD)
    return version, pointers.from_json(value)


def fields(client: redis.Redis, names: Names, component: str, *more: bytes) -> Any:
    """Return the version of a model, and more fields of its hash.

    Raises RoomgradError if the component has no model.
    """
    found: Any = client.hmget(names.model(component), b"version", *more)
    version, *others = found
    if version is None:
        raise RoomgradError(
            f"{component} has no model in run {names.run}: it does not learn, or has never run"
        )
    return version.decode(), *others


def read(client: redis.Redis, names: Names, component: str, snapshot: Snapshot) -> bytearray:
    """Return the bytes of a snapshot. Raises SnapshotError."""
    token: Any = client.hget(names.run_info(), "token")
    owner = Owner(names, component, (token or b"").decode())
    store = store_of(snapshot.place, client.execute_command, owner)
    return store.read(snapshot.place, snapshot.size, snapshot.sha256)


def sha256(client: redis.Redis, names: Names, component: str) -> str:
    """Return the SHA-256 of a model's weights; empty if there is no model yet."""
    try:
        return weights.sha256(stored(client, names, component).weights())
    except SnapshotError:
        raise
    except RoomgradError:
        return ""
