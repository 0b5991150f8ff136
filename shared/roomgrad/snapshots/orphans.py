"""Snapshots that are stored and that no pointer of the model names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from roomgrad.snapshots.owner import name_of
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.stores import SnapshotStore

OLD_S = 3600.0  # a younger one may still be written


def orphans(store: SnapshotStore, pointers: Callable[[], Iterable[Snapshot]]) -> list[str]:
    """Return the places of snapshots that may be deleted, since no pointer names them.

    pointers: reads the pointers of the model. It is called after the places were read, so that a
        snapshot that is pointed to meanwhile is none.

    Raises SnapshotError.
    """
    places = store.places(older_s=OLD_S)
    named = {name_of(each.place) for each in pointers()} if places else set()
    return [place for place in places if name_of(place) not in named]
