"""Programs that a command runs in the foreground: `roomgrad gateway` and `roomgrad dashboard`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from roomgrad import variables
from roomgrad.local import children
from roomgrad.local.session import running_server
from roomgrad.systems import PROGRAMS

REDIS_FLAG = "--redis-url"


def serve(name: str, given: Mapping[str, str], more: Sequence[str], redis: str) -> int:
    """Run a program that serves any system until it ends; return its exit code.

    given: flags by name, left out if empty. more: other flags of the program, as they were typed.
    """
    flags = [f"--{flag}={value}" for flag, value in given.items() if value]
    command = [sys.executable, "-m", PROGRAMS[name], *flags, *more]
    # The server's address is no flag, as it may hold a password.
    environ = {**os.environ, **variables.exported(redis_url=redis)}
    named = any(word.partition("=")[0] == REDIS_FLAG for word in more)
    if named or variables.find("redis_url", environ):
        os.execve(sys.executable, command, environ)
    return _beside_embedded(command, environ)


def _beside_embedded(command: list[str], environ: Mapping[str, str]) -> int:
    """Run it on the embedded server, which stops with its last user; return the exit code."""
    with (
        running_server("") as (url, embedded),
        subprocess.Popen(
            children.bound_to_parent(command),
            env={
                **environ,
                **variables.exported(redis_url=embedded.local_url if embedded else url.url),
            },
            start_new_session=True,  # Ctrl+C reaches only this process, which terminates it
        ) as process,
    ):
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return process.wait()
