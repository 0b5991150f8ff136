"""A process that kills itself, as `kill -9` does, at a point of its own program."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from roomgrad.runtime.model import writer
from roomgrad.snapshots import pieces


def countdown(where: str) -> Callable[[str], bool]:
    """Return a function that is true when a point is reached for the n-th time, like `apply 3`."""
    end, _, times = where.partition(" ")
    left = [int(times or 1)]

    def reached(point: str) -> bool:
        left[0] -= point == end
        return point == end and left[0] == 0

    return reached


def named_in(folder: Path) -> Callable[[str], bool]:
    """Return a function that is true at a point of which a file in a folder has the name.

    The file is deleted, so that one process of several comes to its end.
    """

    def reached(point: str) -> bool:
        try:
            (folder / point).unlink()
        except FileNotFoundError:
            return False
        return True

    return reached


class Death:
    """Kills this process at the point of which a function says so."""

    def __init__(self, reached: Callable[[str], bool]) -> None:
        self._reached = reached

    def at(self, point: str) -> None:
        if self._reached(point):
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, point: str, owner: Any, name: str) -> None:
        """Come to a point at each call of a function."""
        function = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self.at(point)
            return function(*args, **kwargs)

        setattr(owner, name, called)

    def in_snapshots(self) -> None:
        """Come to the points `write`, `piece`, `point`, `pointed` and `drop` of each snapshot."""
        self.before("write", writer.SnapshotWriter, "write")
        self.before("point", writer.SnapshotWriter, "point")  # the pieces are whole
        self.before("pointed", writer.SnapshotWriter, "_wait_until_written")
        self.before("drop", writer.SnapshotWriter, "_delete_files")
        found = pieces._pieces

        def each(content: memoryview) -> Iterator[memoryview]:
            for number, piece in enumerate(found(content)):
                if number == 1:
                    self.at("piece")
                yield piece

        pieces._pieces = each
