"""`roomgrad gateway`: a door for clients of swergio, beside a run or for one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated

import typer
from typer import Option

from roomgrad.commands import options as typed

REDIS_FLAG = "--redis-url"


def gateway(
    context: typer.Context,
    port: Annotated[str, Option(help="Where swergio clients connect (8080).")] = "",
    run: Annotated[str, Option(help="Name of the run that they take part in.")] = "",
    redis: typed.Redis = "",
) -> int:
    """Let clients of swergio take part in a run, until Ctrl+C.

    All other flags are those of the service: python -m services.gateway --help lists them.
    """
    from roomgrad import project

    given = {"port": port, "run": run}
    flags = [f"--{name}={value}" for name, value in given.items() if value]
    command = [sys.executable, "-m", "services.gateway", *flags, *context.args]
    path = os.pathsep.join(filter(None, [str(project.root()), os.environ.get("PYTHONPATH")]))
    # The server's address is no flag: it may hold a password.
    environ = {**os.environ, "PYTHONPATH": path, **({"REDIS_URL": redis} if redis else {})}
    named = any(word.partition("=")[0] == REDIS_FLAG for word in context.args)
    if named or environ.get("REDIS_URL"):
        os.execve(sys.executable, command, environ)
    return _beside_embedded(command, environ)


def _beside_embedded(command: list[str], environ: Mapping[str, str]) -> int:
    """Serve on the embedded server, which ends with the last who uses it; the exit code."""
    from roomgrad import children
    from roomgrad.commands.session import served

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
