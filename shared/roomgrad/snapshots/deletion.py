"""Deletion of all snapshots of a model, in every store that the model names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from roomgrad.errors import RoomgradError
from roomgrad.snapshots import sharing
from roomgrad.snapshots.owner import IN_REDIS, Owner, name_of
from roomgrad.snapshots.pointers import FIELD, from_json
from roomgrad.snapshots.redis_store import Call, RedisStore, execute
from roomgrad.snapshots.stores import open_store


def delete_all(call: Call, owner: Owner) -> list[str]:
    """Delete every snapshot of a model; to be called before its hash is deleted.

    Returns what could not be deleted, each as a sentence.
    """
    left: list[str] = []
    with _noted(left):
        RedisStore(call, owner).delete_all()
    return left + Files(call, owner).delete()


class Files:
    """The stores in which a model has snapshots as files, read from its hash."""

    def __init__(self, call: Call, owner: Owner) -> None:
        self._owner = owner
        self._left: list[str] = []
        self._named: list[str] = []
        self._urls: set[str] = set()
        model = owner.names.model(owner.component).encode()
        with _noted(self._left):
            if probe := sharing.recorded(call, owner):
                self._urls.add(probe.url)
            named = from_json(execute(call, b"HGET", model, FIELD))
            self._named = [each.place for each in named if not each.place.startswith(IN_REDIS)]
            self._urls |= {owner.split(place)[0] for place in self._named}

    def delete(self) -> list[str]:
        """Delete them all, also after the hash; return what could not be deleted."""
        left = list(self._left)
        for url in sorted(self._urls):
            with _noted(left):
                left += self._delete_in(url)
        return left

    def _delete_in(self, url: str) -> list[str]:
        """Delete the snapshots in one store; return those that are on another host."""
        store = open_store(url, self._owner)
        here = {name_of(place) for place in store.places()}
        store.delete_all()
        return [
            f"{place} is not on this host: delete its folder where it is"
            for place in self._named
            if self._owner.split(place)[0] == url and name_of(place) not in here
        ]


@contextlib.contextmanager
def _noted(left: list[str]) -> Iterator[None]:
    """Go on after an error, which is added to a list."""
    try:
        yield
    except RoomgradError as error:
        left.append(str(error))
