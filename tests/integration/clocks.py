"""Clocks that a test sets while a process runs, by libfaketime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUR_S = 3600
JUMPS = {
    "forth": (f"+{HOUR_S}",),
    "back": (f"-{HOUR_S}",),
    "to and fro": (f"+{HOUR_S}", "+0", f"-{HOUR_S}", "+0"),
    "fast": ("+0 x1.01",),
}
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
NEEDS_LIBRARY = [
    pytest.mark.slow,
    pytest.mark.skipif(LIBRARY is None, reason="no libfaketime: apt install libfaketime"),
]


class Clock:
    """The clock of the processes that are started in its block."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")

    def set(self, to: str) -> None:
        """Let it be so many seconds ahead of the real one, and perhaps fast: `+0 x1.01`."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(to)
        partial.replace(self._file)

    @contextlib.contextmanager
    def around(self, *, monotonic: bool = False) -> Iterator[None]:
        """Start processes in the block.

        monotonic: whether their monotonic clock is fast, too; it never jumps.
        """
        with pytest.MonkeyPatch.context() as environ:
            environ.setenv("LD_PRELOAD", str(LIBRARY))
            environ.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
            environ.setenv("FAKETIME_NO_CACHE", "1")
            if not monotonic:
                environ.setenv("DONT_FAKE_MONOTONIC", "1")
            yield
