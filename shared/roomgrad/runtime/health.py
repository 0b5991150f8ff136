"""What `roomgrad health` finds in Redis; containers are checked by `health_file`."""

from __future__ import annotations

import socket
from contextlib import closing

import redis

from roomgrad import variables
from roomgrad.errors import NoServer, RoomgradError, ServerError
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
