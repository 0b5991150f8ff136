"""Whether replicas on several hosts share a store: each looks for the probe of the first one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from roomgrad.messages import new_id
from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.redis_store import Call, execute

FIELD = b"snapshot_probe"


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Probe:
    """A file that a replica has written into its store."""

    url: str
    host: str
    name: str


_PROBE = TypeAdapter(Probe)


def why_not_shared(
    store: FolderStore, call: Call, owner: Owner, host: str, living: Collection[str]
) -> str:
    """Return why other hosts cannot use the snapshots of this store; empty if they can.

    The first replica writes a file into the store, and into the model's hash which one it is. A
    record of a host that is gone is replaced.

    call: as of `RedisStore`. host: of this replica. living: the hosts of the other replicas that
        live.

    Raises SnapshotError if the store cannot be written, or the server refuses.
    """
    key = owner.names.model(owner.component).encode()
    own = Probe(store.url, host, new_id())
    store.put_probe(own.name)
    if execute(call, b"HSETNX", key, FIELD, orjson.dumps(asdict(own))):
        return ""
    first = recorded(call, owner)
    if first is not None and first.url == store.url and store.has_probe(first.name):
        store.delete_probe(own.name)
        if first.host not in living:  # from now on this host is the one to share the store with
            own = Probe(store.url, host, first.name)
            execute(call, b"HSET", key, FIELD, orjson.dumps(asdict(own)))
        return ""
    if first is not None and first.host in living:
        store.delete_probe(own.name)
        return _reason(own, first)
    execute(call, b"HSET", key, FIELD, orjson.dumps(asdict(own)))
    return ""


def recorded(call: Call, owner: Owner) -> Probe | None:
    """Return the probe of the first replica; None without one, or if it cannot be read.

    Raises SnapshotError if the server refuses.
    """
    value = execute(call, b"HGET", owner.names.model(owner.component).encode(), FIELD)
    try:
        return _PROBE.validate_json(value or b"")
    except ValidationError:
        return None


def _reason(own: Probe, first: Probe) -> str:
    if own.url != first.url:
        return (
            f"the replica on host {first.host} stores snapshots in {first.url}, and this one in "
            f"{own.url}: give all replicas the same ROOMGRAD_SNAPSHOTS"
        )
    return (
        f"the snapshot store {own.url} of this host, {own.host}, is not shared with host "
        f"{first.host}, or was emptied: name one by ROOMGRAD_SNAPSHOTS that all hosts reach"
    )
