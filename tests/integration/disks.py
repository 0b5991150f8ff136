"""Disks that forget at a power cut what no fsync made durable, and disks whose fsync lies.

The library of `disk.c` is loaded into the server, and notes what is durable; after the server was
killed its files are cut to that. LazyFS does it with any program, as a file system in user space,
but is in no package registry, and mounts need privileges. Names of files count as durable at once.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.power_cuts import growing

PAGE = 4096  # a disk writes whole ones


@dataclass(frozen=True)
class Disk:
    """A disk below the files of a server that was started in `environ`."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Disk:
        """Compile the library into a folder."""
        source = Path(__file__).with_name("disk.c")
        command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", folder / "disk.so", source]
        subprocess.run([*command, "-ldl"], check=True)
        return cls(folder)

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(self.folder / "disk.so"),
            "DISK_NOTES": str(self.folder / "notes"),
            "DISK_LIES": str(self.folder / "lies"),
        }

    def lie(self) -> None:
        """Make nothing durable from now on, and say that it is."""
        (self.folder / "lies").touch()

    def durable(self, path: Path) -> int:
        """Return how many bytes of a file are durable."""
        lines = (self.folder / "notes").read_text().splitlines()
        notes = dict(tuple(map(int, line.split())) for line in lines)
        return notes.get(path.stat().st_ino, 0)

    def cut_power(self, directory: Path) -> None:
        """Let the files of a server that was killed be what is durable of them."""
        for path in (directory / "appendonlydir").iterdir():
            durable = self.durable(path)
            with path.open("r+b") as file:
                file.truncate(durable)

    def torn(self, directory: Path, target: Path, seed: int) -> Path:
        """Copy the files of a server, of which the disk wrote some pages that no fsync wanted.

        It wrote them in any order: one that is missing before another one is zeros.
        """
        path = growing(directory)
        durable, content = self.durable(path), path.read_bytes()
        ignored = shutil.ignore_patterns("server.*", "start.*")
        shutil.copytree(directory, target, ignore=ignored)
        growing(target).write_bytes(_torn(content, durable, random.Random(seed)))
        return target


def _torn(content: bytes, durable: int, chance: random.Random) -> bytes:
    """Return bytes with some of the pages beyond those that are durable."""
    found, written = bytearray(content[:durable]), durable
    for end in range((durable // PAGE + 1) * PAGE, len(content) + PAGE, PAGE):
        page = content[len(found) : end]
        is_written = chance.random() < 0.5
        found += page if is_written else bytes(len(page))
        written = len(found) if is_written else written
    return bytes(found[:written])
