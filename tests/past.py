"""The data of a server as they were, for servers that fall back."""

from __future__ import annotations

import shutil
from pathlib import Path


class Past:
    """A copy of the append-only file of a server, which may be at work but rewrites it not."""

    def __init__(self, server: Path, folder: Path) -> None:
        self._data = server / "appendonlydir"
        self._copy = folder / "past"
        shutil.copytree(self._data, self._copy)

    def come_back(self) -> None:
        """Let the server, which is down, find the data of then when it starts."""
        shutil.rmtree(self._data)
        shutil.move(self._copy, self._data)
