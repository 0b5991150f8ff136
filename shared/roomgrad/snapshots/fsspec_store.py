"""Snapshots in any file system that fsspec reaches: s3, gs, abfs, sftp..."""

from __future__ import annotations

import contextlib
from typing import IO, Any

from roomgrad.errors import SettingsError
from roomgrad.snapshots import pieces
from roomgrad.snapshots.folder_store import FolderStore
from roomgrad.snapshots.owner import Owner


class FsspecStore(FolderStore):
    """Snapshots below a URL like s3://bucket/folder. Needs `roomgrad[snapshots]`.

    Credentials come from where the file system looks for them (environment, ~/.config/fsspec).
    """

    errors = Exception  # each file system has its own

    def __init__(self, url: str, owner: Owner) -> None:
        """Raises SettingsError if no installed package reaches such a URL."""
        super().__init__(url, owner)
        self._system = _file_system(url)

    def _write(self, place: str, content: memoryview) -> str:
        path = self._path(place)
        self._system.makedirs(self._path(self._folder), exist_ok=True)
        try:
            # With a transaction the file appears when it is complete, if the file system can.
            with self._system.transaction, self._system.open(path, "wb") as file:
                return pieces.written(content, file.write)
        except BaseException:
            with contextlib.suppress(Exception):
                self._system.rm_file(path)
            raise

    def _touch(self, place: str) -> float:
        self._system.makedirs(self._path(self._folder), exist_ok=True)
        self._system.pipe_file(self._path(place), b"")
        return self._changed(self._path(place))

    def _open(self, place: str) -> IO[bytes]:
        file: IO[bytes] = self._system.open(
            self._path(place), "rb", block_size=pieces.PIECE_BYTES, cache_type="readahead"
        )
        return file

    def _size(self, place: str) -> int:
        self._system.invalidate_cache()
        return int(self._system.size(self._path(place)))

    def _files(self) -> dict[str, float]:
        self._system.invalidate_cache()
        try:
            found: list[str] = self._system.ls(self._path(self._folder), detail=False)
        except FileNotFoundError:
            return {}
        names = ((path.rpartition("/")[2], path) for path in found)
        return {name: self._changed(path) for name, path in names if name}

    def _delete(self, place: str) -> None:
        self._system.rm_file(self._path(place))

    def _delete_folder(self) -> None:
        self._system.rm(self._path(self._folder), recursive=True)

    def _path(self, url: str) -> str:
        path: str = self._system._strip_protocol(url)
        return path

    def _changed(self, path: str) -> float:
        return float(self._system.modified(path).timestamp())


def _file_system(url: str) -> Any:
    """Return the file system of a URL, an instance of its own: transactions are per instance."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise SettingsError(
            f"snapshots in {url} need the package fsspec: pip install 'roomgrad[snapshots]'"
        ) from error
    try:
        return url_to_fs(url, skip_instance_cache=True)[0]
    except (ImportError, ValueError) as error:
        raise SettingsError(f"snapshots cannot be stored in {url}: {error}") from error
