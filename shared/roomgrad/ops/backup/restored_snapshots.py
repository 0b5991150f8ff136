"""Snapshots of models from a backup, written into the stores of the restoring side.

They come before the hashes of their models, whose pointers are changed to where they are now.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator

from roomgrad.errors import FormatError, SnapshotError, format_value
from roomgrad.names import Names
from roomgrad.ops.backup.records import Item, KeyHeader, component_of
from roomgrad.settings import RuntimeSettings
from roomgrad.snapshots import pieces, pointers, sharing
from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.owner import IN_REDIS, Owner, name_of
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.stores import open_store

MIB = 1024 * 1024
_SNAPSHOT = re.compile(rb"model:([^:]+):snapshot:([A-Za-z0-9_.-]{1,64})")

Put = Callable[[str, str, bytearray], str]
"""Stores the snapshot of a component by its name; returns its place."""


def put_nowhere(component: str, name: str, content: bytearray) -> str:
    """Store nothing: the file is only validated."""
    return IN_REDIS + name


class RestoredSnapshots:
    """Stores the snapshots of a backup, and lets the hashes of their models point to them."""

    def __init__(self, put: Put) -> None:
        self._put = put
        self._found: dict[tuple[str, str], tuple[str, int, str]] = {}

    def store(self, header: KeyHeader, items: Iterator[Item]) -> None:
        """Store a snapshot. Raises FormatError if its name is not one."""
        found = _SNAPSHOT.fullmatch(header.key)
        if found is None:
            raise FormatError(f"{format_value(header.key)} is not the name of a snapshot")
        component, name = (each.decode(errors="replace") for each in found.groups())
        content = bytearray()
        for (piece,) in items:
            content += piece
        place = self._put(component, name, content)
        sha256 = hashlib.sha256(content).hexdigest()
        self._found[component, name] = place, len(content), sha256

    def change(self, header: KeyHeader, items: Iterator[Item]) -> Iterator[Item]:
        """Return the items of a key, with pointers to the snapshots that were stored.

        Raises FormatError if one is not what the pointer to it says.
        """
        component = component_of(header)
        if not component:
            return items
        kept = (item for item in items if item[0] != sharing.FIELD)  # of the store of the backup
        return (self._changed(component, item) for item in kept)

    def _changed(self, component: str, item: Item) -> Item:
        if item[0] != pointers.FIELD:
            return item
        try:
            stored = pointers.from_json(item[1])
        except SnapshotError as error:
            raise FormatError(str(error)) from error
        return [item[0], pointers.to_json([self._moved(component, each) for each in stored])]

    def _moved(self, component: str, snapshot: Snapshot) -> Snapshot:
        """Return the pointer to where a snapshot was stored; an older backup has only pieces."""
        found = self._found.get((component, name_of(snapshot.place)))
        if found is None:
            return snapshot
        place, *content = found
        if content != [snapshot.size, snapshot.sha256]:
            raise FormatError(f"the snapshot {format_value(snapshot.place)} was changed")
        return dataclasses.replace(snapshot, place=place)


class OwnStores:
    """Stores snapshots where the settings of this side say: in Redis, or in files.

    write: writes a key of the run under a temporary name.
    """

    def __init__(
        self,
        names: Names,
        token: str,
        settings: RuntimeSettings,
        write: Callable[[KeyHeader, Iterator[Item]], None],
    ) -> None:
        self._names, self._token = names, token
        self._settings = settings
        self._write = write
        self._files: list[tuple[FolderStore, str]] = []

    def put(self, component: str, name: str, content: bytearray) -> str:
        """Store a snapshot; return its place. Raises SnapshotError."""
        if len(content) > self._settings.snapshot_redis_mib * MIB:
            owner = Owner(self._names, component, self._token)
            store = open_store(self._settings.snapshots, owner)
            place, _ = store.write(name.rpartition(".")[0] or name, memoryview(content))
            self._files.append((store, place))
            return place
        for number in range(pieces.count(len(content))):
            start = number * pieces.PIECE_BYTES
            key = f"model:{component}:snapshot:{name}:{number}".encode()
            piece = bytes(content[start : start + pieces.PIECE_BYTES])
            self._write(KeyHeader(key, "string", 1), iter([[piece]]))
        return IN_REDIS + name

    @contextlib.contextmanager
    def cleanup(self) -> Iterator[None]:
        """Delete the files if the block raises: the run was not restored then."""
        try:
            yield
        except BaseException:
            for store, place in self._files:
                with contextlib.suppress(SnapshotError):
                    store.delete(place)
            raise
