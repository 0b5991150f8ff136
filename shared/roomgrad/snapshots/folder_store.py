"""Snapshots as files in a folder: what all file systems have in common."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import IO

from roomgrad.errors import RoomgradError, SnapshotError
from roomgrad.messages import new_id
from roomgrad.snapshots import owner as owners
from roomgrad.snapshots import pieces
from roomgrad.snapshots.owner import SUFFIX, Owner

PROBE = "probe-"  # files that are no snapshots


class FolderStore(ABC):
    """The snapshots of a model in `URL/RUN~TOKEN/COMPONENT/`.

    The token of the run keeps apart runs of one name, of other servers or of an emptied one.
    """

    errors: type[Exception] = OSError
    """What the file system raises."""

    def __init__(self, url: str, owner: Owner) -> None:
        self.url = url
        self._owner = owner
        self._folder = f"{url}/{owner.folder_in(url)}"

    def place(self, name: str) -> str:
        """Return the place of a file; other hosts may reach the same folder under another URL."""
        return f"{self._folder}/{name}"

    def write(self, token: str, content: memoryview) -> tuple[str, str]:
        """Store the state of a version as a file; return its URL, and its SHA-256.

        content: contiguous; it is written in pieces, and not copied as a whole.

        Raises SnapshotError, with nothing stored, if it cannot be written: the disk is full.
        """
        place = self.place(f"{owners.unique(token)}{SUFFIX}")
        with self._explained("written", place):
            return place, self._write(place, content)

    def keys(self, place: str, size: int) -> list[str]:
        """Return the keys that the commit which points to a snapshot has to PERSIST: none."""
        return []

    def read(self, place: str, size: int, sha256: str) -> bytearray:
        """Return the bytes of a snapshot. Raises SnapshotError if they are not what was written."""
        self._require_own(place)
        with self._explained("read", place):
            stored = self._size(place)
            with self._open(place) as file:
                return pieces.read(place, size, sha256, stored, file.readinto)  # type: ignore[attr-defined]

    def delete(self, place: str) -> None:
        """Delete a snapshot, if it is stored. Raises SnapshotError."""
        self._require_own(place)
        with self._explained("deleted", place), contextlib.suppress(FileNotFoundError):
            self._delete(place)

    def places(self, older_s: float = 0.0) -> list[str]:
        """Return the places of all snapshots, also of incomplete ones.

        older_s: only of those that were changed at least so many seconds ago, by the clock of the
            file system.

        Raises SnapshotError.
        """
        with self._explained("read", self._folder):
            found = {name: at for name, at in self._files().items() if not name.startswith(PROBE)}
            latest = self._now() - older_s if found and older_s else None
            return sorted(
                self.place(name) for name, at in found.items() if latest is None or at <= latest
            )

    def delete_all(self) -> None:
        """Delete every snapshot of the model, or of all models of the run. Raises SnapshotError."""
        with self._explained("deleted", self._folder), contextlib.suppress(FileNotFoundError):
            self._delete_folder()

    def check(self) -> None:
        """Raise SnapshotError if no snapshot can be written."""
        with self._explained("written", self._folder):
            self._now()

    # probes: files by which replicas find out whether they share a store

    def put_probe(self, name: str) -> None:
        """Write an empty file. Raises SnapshotError."""
        with self._explained("written", self._folder):
            self._touch(self.place(f"{PROBE}{name}"))

    def has_probe(self, name: str) -> bool:
        """Return whether this file exists. Raises SnapshotError."""
        with self._explained("read", self._folder):
            return f"{PROBE}{name}" in self._files()

    def delete_probe(self, name: str) -> None:
        """Delete this file, if it exists. Raises SnapshotError."""
        with self._explained("deleted", self._folder), contextlib.suppress(FileNotFoundError):
            self._delete(self.place(f"{PROBE}{name}"))

    # what a file system does; places are URLs of files in the folder

    @abstractmethod
    def _write(self, place: str, content: memoryview) -> str:
        """Write a file as a whole or not at all; return its SHA-256."""

    @abstractmethod
    def _touch(self, place: str) -> float:
        """Write an empty file; return when that was by the clock of the file system."""

    @abstractmethod
    def _open(self, place: str) -> IO[bytes]:
        """Open a file for reading."""

    @abstractmethod
    def _size(self, place: str) -> int:
        """Return the size of a file in bytes."""

    @abstractmethod
    def _files(self) -> dict[str, float]:
        """Return the names of the files in the folder, and when each was changed."""

    @abstractmethod
    def _delete(self, place: str) -> None:
        """Delete a file."""

    @abstractmethod
    def _delete_folder(self) -> None:
        """Delete the folder with everything in it."""

    def _now(self) -> float:
        place = self.place(f"{PROBE}{new_id()}")
        try:
            return self._touch(place)
        finally:
            with contextlib.suppress(self.errors):
                self._delete(place)

    def _require_own(self, place: str) -> None:
        url, _ = self._owner.split(place)
        if url != self.url:
            raise SnapshotError(f"{place} is not in the snapshot store {self.url}")

    @contextlib.contextmanager
    def _explained(self, what: str, place: str) -> Iterator[None]:
        try:
            yield
        except RoomgradError:
            raise
        except self.errors as error:
            if what == "read" and isinstance(error, FileNotFoundError):
                raise pieces.missing(place) from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SnapshotError(
                f"{place} cannot be {what} by user id {os.geteuid()} ({reason}): make space there, "
                f"or let this user read and write the folder, or name another one by "
                f"ROOMGRAD_SNAPSHOTS"
            ) from error
