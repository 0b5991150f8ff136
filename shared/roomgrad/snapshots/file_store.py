"""Snapshots as files on this machine, or on a volume that hosts share."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit
from urllib.request import url2pathname

from roomgrad import files
from roomgrad.snapshots import pieces
from roomgrad.snapshots.folder_store import FolderStore

# The umask applies, too. No file or folder is for every user of a machine.
FILE_MODE, FOLDER_MODE = 0o660, 0o770


class FileStore(FolderStore):
    """Snapshots below the folder of a URL like file:///snapshots.

    A snapshot appears under its name when it is complete and on the disk.
    """

    def _write(self, place: str, content: memoryview) -> str:
        path = _path(place)
        _make_folder(path.parent)
        with files.replacing(path, FILE_MODE) as file:
            sha256 = pieces.written(content, file.write)
        _sync(path.parent)
        return sha256

    def _touch(self, place: str) -> float:
        path = _path(place)
        _make_folder(path.parent)
        path.touch(FILE_MODE)
        return path.stat().st_mtime

    def _open(self, place: str) -> IO[bytes]:
        return _path(place).open("rb")

    def _size(self, place: str) -> int:
        return _path(place).stat().st_size

    def _files(self) -> dict[str, float]:
        found: dict[str, float] = {}
        with contextlib.suppress(FileNotFoundError):
            for each in _path(self._folder).iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was deleted meanwhile
                    found[each.name] = each.stat().st_mtime
        return found

    def _delete(self, place: str) -> None:
        _path(place).unlink()

    def _delete_folder(self) -> None:
        folder = _path(self._folder)
        shutil.rmtree(folder)
        if self._owner.component:
            with contextlib.suppress(OSError):  # it holds the snapshots of other components
                folder.parent.rmdir()


def _path(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it; each is on the disk with its name."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(FOLDER_MODE, exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Return when the disk has the names of the files in a folder."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
