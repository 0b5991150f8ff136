"""The health check of a container: `python -m roomgrad.runtime.health [COMPONENT] [--patient]`.

It reads what the component reads: RUN, REDIS_URL, REDIS_PASSWORD_FILE, REDIS_CA_FILE and
HANDLER_TIMEOUT_S; and COMPONENT, which the images of this project set. It needs no command line
package and imports little, because a container engine starts it again and again.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from contextlib import closing

if __name__ == "__main__":
    # redis-py imports OpenTelemetry where it is installed, which would double the time of a check.
    sys.modules.setdefault("opentelemetry", None)  # type: ignore[arg-type]

import redis

from roomgrad import variables
from roomgrad.errors import NoServer, RoomgradError, RunMismatch, ServerError, SettingsError
from roomgrad.names import Names
from roomgrad.redis import heartbeats
from roomgrad.redis.cluster import switch_run
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import ServerAddress

HANDLER_TIMEOUT_S = 600.0


def check(
    component: str,
    run: str,
    redis_url: str = "",
    handler_timeout_s: float = HANDLER_TIMEOUT_S,
    *,
    patient: bool = False,
) -> str:
    """Return a sentence that says that the component's loop turns on this host.

    patient: a server that is unreachable or refuses to write counts as healthy, because a restarted
        component could only wait for it as well.

    Raises RoomgradError if the component is not healthy, NoServer if no server answers or writes,
    and ServerError if the server refuses the check.
    """
    try:
        trouble, waits = _state(component, Names(run), address(redis_url), handler_timeout_s)
    except NoServer as error:
        if not patient:
            raise
        return f"{component} waits for its server: {error}"
    if trouble:
        raise RoomgradError(trouble)
    return f"{component} lives, and waits: {waits}." if waits else f"{component} is well."


def _state(
    component: str, names: Names, url: ServerAddress, handler_timeout_s: float
) -> tuple[str, str]:
    host = socket.gethostname()
    with closing(connect(url, variables.get("redis_password_file"))) as client:
        try:
            switch_run(client, names.run)
            found = heartbeats.on_host(client, names, component, host, handler_timeout_s)
            if found[0] and (reason := _refuses_to_write(client)):
                raise NoServer(f"the server at {url} refuses to write: {reason}")
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise NoServer(f"the server at {url} is gone: {error}") from error
        except redis.RedisError as error:
            raise ServerError(f"the server at {url} refuses: {error}") from error
    return found


def _refuses_to_write(client: redis.Redis) -> str:
    """Return why the server takes no writes, or an empty text if it does or does not tell."""
    try:
        client.ping()
        is_replica = client.info("replication").get("role") == "slave"
    except redis.exceptions.NoPermissionError:
        return ""
    except redis.ResponseError as error:  # MISCONF: its disk is full, or a snapshot failed
        return str(error)
    return "it is a replica of another server" if is_replica else ""


def _run_of(component: str) -> str:
    """Return ROOMGRAD_RUN, or else the run that a component serves by default: its system's."""
    if run := variables.get("run"):
        return run
    from roomgrad.systems import installed  # slow: it imports the contracts

    for system, plugin in installed().items():
        if component in plugin.modules:
            return system
    raise SettingsError(
        f"no installed system has a component {component!r}: name the run that it serves in "
        "ROOMGRAD_RUN"
    )


def _handler_timeout_s() -> float:
    given = variables.find("handler_timeout_s")
    if given is None:
        return HANDLER_TIMEOUT_S
    try:
        return float(given.value)
    except ValueError as error:
        raise SettingsError(
            f"{given.name} is {given.value!r}, expected seconds, like 600"
        ) from error


def main() -> int:
    """Print the result of a check and return its exit code: 0, 1, or 2 for wrong settings."""
    parser = argparse.ArgumentParser("python -m roomgrad.runtime.health", description=__doc__)
    parser.add_argument("component", nargs="?", help="the component, like trainer; or COMPONENT")
    parser.add_argument("--patient", action="store_true", help="succeed while no server answers")
    given = parser.parse_args()
    component = given.component or os.environ.get("COMPONENT", "")
    if not component:
        parser.error("name a component, or set COMPONENT")
    try:
        run, timeout_s = _run_of(component), _handler_timeout_s()
        print(check(component, run, "", timeout_s, patient=given.patient))
    except RoomgradError as error:
        print(f"{component}: {error}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError | RunMismatch) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
