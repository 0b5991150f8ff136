"""A Python environment in which a test installs, beside everything that is installed here."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path


def empty_environment(folder: Path) -> Path:
    """Make an environment that also sees the packages of this one; return its `bin` folder."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    here = sysconfig.get_path("purelib")
    # A line that begins with `import` is executed: it also reads the .pth files that are there.
    Path(own, "packages.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    programs = folder / "bin"
    for name in ("pip", "roomgrad"):
        (programs / name).write_text(f'#!/bin/sh\nexec {programs}/python -m {name} "$@"\n')
        (programs / name).chmod(0o755)
    return programs
