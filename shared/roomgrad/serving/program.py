"""A program in any language as a function: a batch of rows per line, as JSON, in and out."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from roomgrad.errors import RoomgradError, SchemaError, SettingsError, format_value
from roomgrad.local import children


class Program:
    """A process that reads `[[3.0, 60.0], ...]` from stdin and writes as many rows to stdout.

    It is started with the first call, and again after it ended or wrote a wrong line.
    """

    def __init__(self, command: str) -> None:
        """Raise SettingsError if there is no such program."""
        try:
            name, *more = shlex.split(command) or [""]
        except ValueError as error:
            raise SettingsError(f"--command {command}: {error}") from error
        found = shutil.which(name)
        if found is None:
            raise SettingsError(
                f"--command {command}: there is no program {name!r} here or on the PATH that may "
                f"be executed"
            )
        self.command = command
        self.__name__ = Path(name).stem
        self._words = [found, *more]
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return the rows that the program makes of others.

        Raises SchemaError for a line that is no batch of as many rows, and RoomgradError if the
        program ends.
        """
        line = self._asked(orjson.dumps(x.tolist()) + b"\n")
        try:
            found = np.array(orjson.loads(line), dtype="<f8")
        except (orjson.JSONDecodeError, TypeError, ValueError):
            found = np.empty(0)
        if found.ndim == 0 or len(found) != len(x):
            self.close()  # what it writes next may belong to this batch, too
            text = format_value(line.decode(errors="replace").rstrip("\n"))
            raise SchemaError(
                f"{self.command} wrote {text}, expected a line with a JSON array of {len(x)} rows"
            )
        return found

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def _asked(self, line: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            self.close()
            raise RoomgradError(
                f"{self.command} ended with exit code {process.returncode} before it answered; "
                f"it is started again"
            )
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                children.bound_to_parent(self._words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        return self._process
