"""Services that a command starts in the foreground: `roomgrad gateway` and `roomgrad dashboard`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

REDIS_FLAG = "--redis-url"


def serve(name: str, given: Mapping[str, str], more: Sequence[str], redis: str) -> int:
    """Run a service of this project until it ends; its exit code.

    given: flags by name, left out where empty. more: flags of the service as they were typed.
    """
    from roomgrad import state
    from roomgrad.local import project

    flags = [f"--{flag}={value}" for flag, value in given.items() if value]
    command = [sys.executable, "-m", project.module_of(name), *flags, *more]
    path = os.pathsep.join(filter(None, [str(state.root()), os.environ.get("PYTHONPATH")]))
    # The server's address is no flag: it may hold a password.
    environ = {**os.environ, "PYTHONPATH": path, **({"REDIS_URL": redis} if redis else {})}
    named = any(word.partition("=")[0] == REDIS_FLAG for word in more)
    if named or environ.get("REDIS_URL"):
        os.execve(sys.executable, command, environ)
    return _beside_embedded(command, environ)


def _beside_embedded(command: list[str], environ: Mapping[str, str]) -> int:
    """Serve on the embedded server, which ends with the last who uses it; the exit code."""
    from roomgrad.local import children
    from roomgrad.local.session import served

    with (
        served("") as (url, embedded),
        subprocess.Popen(
            children.bound_to_parent(command),
            env={**environ, "REDIS_URL": embedded.local_url if embedded else url},
            start_new_session=True,  # Ctrl+C reaches it once, from here
        ) as process,
    ):
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return process.wait()
