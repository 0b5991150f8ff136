"""Deletion of all snapshots of a model, in every store that the model names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from roomgrad.errors import RoomgradError
from roomgrad.snapshots import sharing
from roomgrad.snapshots.owner import IN_REDIS, Owner, name_of
from roomgrad.snapshots.pointers import FIELD, Snapshot, from_json
from roomgrad.snapshots.redis_store import Call, RedisStore, execute
from roomgrad.snapshots.stores import open_store


def delete_all(call: Call, owner: Owner) -> list[str]:
    """Delete every snapshot of a model; to be called before its hash is deleted.

    Returns what could not be deleted, each as a sentence.
    """
    left: list[str] = []
    named: Sequence[Snapshot] = ()
    urls: set[str] = set()
    model = owner.names.model(owner.component).encode()
    with _noted(left):
        RedisStore(call, owner).delete_all()
    with _noted(left):
        named = from_json(execute(call, b"HGET", model, FIELD))
    with _noted(left):
        probe = sharing.recorded(call, owner)
        urls |= {probe.url} if probe else set()
        urls |= {owner.split(each)[0] for each in _files(named)}
    for url in sorted(urls):
        with _noted(left):
            left += _delete_in(url, owner, named)
    return left


def _delete_in(url: str, owner: Owner, named: Sequence[Snapshot]) -> list[str]:
    """Delete the snapshots in one store; return those that are on another host."""
    store = open_store(url, owner)
    here = {name_of(place) for place in store.places()}
    store.delete_all()
    return [
        f"{place} is not on this host: delete its folder where it is"
        for place in _files(named)
        if owner.split(place)[0] == url and name_of(place) not in here
    ]


def _files(named: Sequence[Snapshot]) -> list[str]:
    return [each.place for each in named if not each.place.startswith(IN_REDIS)]


@contextlib.contextmanager
def _noted(left: list[str]) -> Iterator[None]:
    """Go on after an error, which is added to a list."""
    try:
        yield
    except RoomgradError as error:
        left.append(str(error))
