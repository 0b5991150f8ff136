"""Make the commands of the programs in a swarm file.

Every command begins with a full path, as it is started in another folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from roomgrad.errors import RoomgradError, SettingsError
from roomgrad.local.plan import Program, hint
from roomgrad_swergio.swarm.file import Entry, SwarmFile, read

PYTHON = "python"


def programs(path: Path, only: Sequence[str] = ()) -> dict[str, Program]:
    """Return the programs of a swarm file in its order, or only some of them.

    Raises FormatError if the file cannot be read, SettingsError if a value in it is wrong, and
    RoomgradError if a program that it needs is not installed.
    """
    file = read(path)
    for name in only:
        if name not in file.components:
            raise SettingsError(
                f"--only {name}: {path} has no such component, {hint(name, list(file.components))}"
            )
    chosen = {name: each for name, each in file.components.items() if not only or name in only}
    return {
        name: Program(
            command=_Location(path, name).command(entry, file), delay_s=float(entry.delay or 0)
        )
        for name, entry in chosen.items()
    }


class _Location:
    """The location of one entry: the folder at which its paths begin, and its name in errors."""

    def __init__(self, path: Path, name: str) -> None:
        self.folder = path.parent
        self.name = f"{path}: {name}"

    def command(self, entry: Entry, file: SwarmFile) -> list[str]:
        """Return the command of the entry."""
        script = self.folder / entry.filepath
        defaults = file.defaults
        if script.suffix == ".py":
            envpath = entry.get("envpath", defaults.python_envpath)
            python = entry.python_cmd or defaults.python_cmd or PYTHON
            words = [self._python(envpath, python)]
        elif script.suffix == ".jl":
            words = self._julia(entry.get("envpath", defaults.julia_envpath))
        else:
            raise SettingsError(
                f"{self.name} has the filepath {entry.filepath!r}: expected a .py or .jl file"
            )
        if not script.is_file():
            raise SettingsError(
                f"{self.name} has the filepath {entry.filepath!r}, and there is no file {script}: "
                "correct the path, which begins at the folder of the swarm file"
            )
        terminal = self._terminal(entry.get("terminal_cmd", defaults.terminal_cmd))
        return [*terminal, *words, str(script)]

    def _python(self, envpath: str, python: str) -> str:
        if not envpath:
            found = self._found(python)
            if not found and python == PYTHON:
                return sys.executable
            if not found:
                raise SettingsError(
                    f"{self.name} has the python_cmd {python!r}, and there is no such program: "
                    "name one that is on the PATH, or its path"
                )
            return found
        start = str(self.folder / envpath)
        tried = [f"{start}/{python}", f"{start}/bin/{python}", f"{start}{python}"]
        for path in tried:
            if shutil.which(path):
                return path
        raise SettingsError(
            f"{self.name} has the envpath {envpath!r}, and there is no program {tried[0]}: "
            f"expected the path before {python}, like env/bin/"
        )

    def _julia(self, envpath: str) -> list[str]:
        julia = shutil.which("julia")
        if julia is None:
            raise RoomgradError(
                f"{self.name} needs julia, which is not on the PATH: install it "
                "(https://julialang.org), or start the others by --only"
            )
        project = {"": [], ".": ["--project"]}.get(envpath, [f"--project={envpath}"])
        return [julia, *project]

    def _terminal(self, text: str) -> list[str]:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise SettingsError(
                f"{self.name} has the terminal_cmd {text!r} ({error}): close every quotation mark"
            ) from None
        if not words:
            return []
        found = self._found(words[0])
        if not found:
            raise SettingsError(
                f"{self.name} has the terminal_cmd {text!r}, and there is no program {words[0]}: "
                "install it, or leave terminal_cmd out"
            )
        return [found, *words[1:]]

    def _found(self, program: str) -> str:
        """Return the path of a program on the PATH, or relative to the file; empty if not found."""
        path = str(self.folder / program) if os.sep in program else program
        return shutil.which(path) or ""
