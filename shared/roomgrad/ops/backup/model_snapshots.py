"""Snapshots that the models of a run point to, copied from their stores into a backup."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import redis

from roomgrad.errors import SnapshotError
from roomgrad.names import Names
from roomgrad.ops.backup.archive import line
from roomgrad.ops.backup.records import SNAPSHOT, KeyHeader, component_of, encoded
from roomgrad.ops.backup.snapshot import KeySnapshot
from roomgrad.runtime.runs import owners
from roomgrad.snapshots import pieces, pointers
from roomgrad.snapshots.owner import IN_REDIS, Owner, name_of
from roomgrad.snapshots.pointers import FIELD, Snapshot
from roomgrad.snapshots.stores import open_store, store_of


@dataclass(frozen=True)
class SnapshotCopy:
    """The bytes of one snapshot in an unnamed temporary file."""

    header: KeyHeader
    file: IO[bytes]

    def lines(self) -> Iterator[bytes]:
        """Yield its pieces as the archive stores them."""
        self.file.seek(0)
        while piece := self.file.read(pieces.PIECE_BYTES):
            yield line([encoded(piece)])


class SnapshotCopies:
    """Copies snapshots of one run, each once.

    folder: where the copies are. stack: deletes them when it is closed. url: of the store under
        which this host reaches files of replicas on others, such as those in containers.
    """

    def __init__(
        self, client: redis.Redis, names: Names, folder: Path, stack: ExitStack, url: str = ""
    ) -> None:
        self._client, self._names = client, names
        self._folder, self._stack = folder, stack
        self._url = url
        self._copies: dict[str, SnapshotCopy] = {}
        self.found: list[SnapshotCopy] = []
        """Those that the keys point to."""
        self.warnings: list[str] = []

    def prefetch(self) -> None:
        """Copy what the run points to now, since its replicas may delete it soon."""
        for owner in owners(self._client, self._names):
            value: Any = self._client.hget(self._names.model(owner.component), FIELD.decode())
            self._copy(owner, value)
        self.warnings.clear()  # of those that are no longer pointed to; the others come again

    def complete(self, keys: list[KeySnapshot]) -> list[KeySnapshot]:
        """Return the keys of a run, whose pointers lead to `found` alone.

        Raises SnapshotError if no snapshot of a model is whole.
        """
        info = next((each.reply for each in keys if each.header.key == b"run"), [])
        token = dict(zip(info[::2], info[1::2], strict=True)).get(b"token")
        return [self._pointing(each, token) for each in keys]

    def _pointing(self, model: KeySnapshot, token: bytes | None) -> KeySnapshot:
        component, flat = component_of(model.header), list(model.reply)
        if not component or FIELD not in flat[::2]:
            return model
        at = 2 * flat[::2].index(FIELD) + 1
        before, whole = len(self.warnings), self._copy(self._owner(component, token), flat[at])
        if not whole:
            raise SnapshotError(
                f"no snapshot of {component} in run {self._names.run} can be read "
                f"({'; '.join(self.warnings[before:])}): run the backup where its snapshots are, "
                f"or start {component}, which takes a new one"
            )
        self.found += [self._copies[each.place] for each in whole]
        flat[at] = pointers.to_json(whole)
        return dataclasses.replace(model, reply=flat)

    def _copy(self, owner: Owner, value: bytes | None) -> list[Snapshot]:
        """Copy the snapshots of a model; return the pointers to those that are whole."""
        whole = []
        for snapshot in pointers.from_json(value):
            try:
                if snapshot.place not in self._copies:
                    self._copies[snapshot.place] = self._copied(owner, snapshot)
                whole.append(snapshot)
            except SnapshotError as error:
                self.warnings.append(f"the backup misses a snapshot of {owner.component}: {error}")
        return whole

    def _owner(self, component: str, token: bytes | None) -> Owner:
        return Owner(self._names, component, (token or b"").decode(errors="replace"))

    def _copied(self, owner: Owner, snapshot: Snapshot) -> SnapshotCopy:
        content = self._read(owner, snapshot)
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 -- closed by the stack
        self._stack.callback(file.close)
        file.write(content)
        key = f"model:{owner.component}:snapshot:{name_of(snapshot.place)}".encode()
        return SnapshotCopy(KeyHeader(key, SNAPSHOT, pieces.count(snapshot.size)), file)

    def _read(self, owner: Owner, snapshot: Snapshot) -> bytearray:
        place, content = snapshot.place, (snapshot.size, snapshot.sha256)
        if self._url and not place.startswith(IN_REDIS):
            here = open_store(self._url, owner)
            with contextlib.suppress(SnapshotError):
                return here.read(here.place(owner.split(place)[1]), *content)
        return store_of(place, self._client.execute_command, owner).read(place, *content)
