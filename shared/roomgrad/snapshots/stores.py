"""The stores of snapshots, by URL: files, what fsspec reaches, and Redis."""

from __future__ import annotations

import re
from typing import Protocol

from roomgrad.errors import SettingsError, SnapshotError
from roomgrad.snapshots.file_store import FileStore
from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.fsspec_store import FsspecStore
from roomgrad.snapshots.owner import FILES, IN_REDIS, Owner
from roomgrad.snapshots.redis_store import Call, RedisStore
from roomgrad.state import run_directory

_URL = re.compile(r"([a-z][a-z0-9+.-]*://)([^@?#\s]*?)/*")


class SnapshotStore(Protocol):
    """Stores the snapshots of one model as bytes. Every method may raise SnapshotError."""

    @property
    def url(self) -> str:
        """Where it is: `redis:`, or the URL of a folder."""

    def write(self, token: str, content: memoryview) -> tuple[str, str]:
        """Store the state of a version, whole or not at all; return its place, and its SHA-256."""

    def keys(self, place: str, size: int) -> list[str]:
        """Return the keys that the commit which points to a snapshot has to PERSIST."""

    def read(self, place: str, size: int, sha256: str) -> bytearray:
        """Return the bytes of a snapshot, verified."""

    def delete(self, place: str) -> None:
        """Delete a snapshot, if it is stored."""

    def places(self, older_s: float = 0.0) -> list[str]:
        """Return the places of all snapshots, or of those that have been there for so long."""

    def delete_all(self) -> None:
        """Delete every snapshot of the model."""

    def check(self) -> None:
        """Raise SnapshotError if no snapshot can be written."""


def default_url(run: str) -> str:
    """Return the URL of the store of a run without the setting: it is below the state folder."""
    return (run_directory(run) / "snapshots").as_uri()


def open_store(url: str, owner: Owner) -> FolderStore:
    """Return the store at a URL; the default one if it is empty.

    Raises SettingsError if it is not a URL, or if no installed package reaches it.
    """
    url = url or default_url(owner.names.run)
    found = _URL.fullmatch(url)
    if found is None or "::" in url:
        raise SettingsError(
            f"snapshots cannot be stored in {url.rpartition('@')[2]!r}: expected a URL like "
            f"file:///snapshots or s3://bucket/folder, without credentials"
        )
    scheme, path = found.groups()
    if scheme != FILES:
        return FsspecStore(scheme + path, owner)
    if path and not path.startswith("/"):
        raise SettingsError(
            f"snapshots cannot be stored in {url!r}: expected the path of a folder with three "
            f"slashes, like file:///{path}"
        )
    return FileStore(scheme + path, owner)


def store_of(place: str, call: Call, owner: Owner) -> SnapshotStore:
    """Return the store in which any replica wrote a snapshot.

    Raises SnapshotError if the place is not one of this owner, or cannot be reached from here.
    """
    if place.startswith(IN_REDIS):
        return RedisStore(call, owner)
    url, _ = owner.split(place)
    try:
        return open_store(url, owner)
    except SettingsError as error:
        raise SnapshotError(str(error)) from error
