"""Which server a command means, and which of its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis

from roomgrad.errors import NoServer, ServerError, SettingsError
from roomgrad.inspect.keys import runs_on
from roomgrad.inspect.streams import keys_of, place
from roomgrad.local.plan import find_system, hint
from roomgrad.local.session import password_file
from roomgrad.names import ERRORS, LOGGING, Names
from roomgrad.redis.addresses import without_password
from roomgrad.redis.cluster import go_to
from roomgrad.redis.registry import components_of
from roomgrad.redis.server import address, connect


@contextmanager
def reached(redis_url: str) -> Iterator[tuple[redis.Redis, str]]:
    """A connection and its address; whatever the server refuses in the block is one sentence.

    Raises NoServer and ServerError.
    """
    url = address(redis_url)
    with closing(connect(url, password_file())) as client:
        try:
            yield client, url
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise NoServer(f"the server at {without_password(url)} is gone: {error}") from error
        except redis.exceptions.NoPermissionError as error:
            raise ServerError(
                f"the server at {without_password(url)} does not allow it ({error}): "
                f"name a user that may in the address (redis://NAME:PASSWORD@HOST), "
                f"or allow it by ACL SETUSER"
            ) from error
        except redis.exceptions.AskError as error:
            raise ServerError(
                f"the server at {without_password(url)} is a node of a cluster ({error}): "
                f"name it as redis+cluster://HOST:PORT"
            ) from error
        except redis.ResponseError as error:
            raise ServerError(f"the server at {without_password(url)} refuses: {error}") from error


def chosen(client: redis.Redis, run: str, system: str = "") -> Names:
    """The run that is meant: by its name, by its system, or the only one that there is.

    On a cluster, the client goes to the node that serves it from then on.

    Raises SettingsError with the runs that there are.
    """
    name = run or os.environ.get("RUN", "") or (find_system(system).name if system else "")
    if not name:
        name = _only(runs_on(client))
    names = Names(name)
    go_to(client, name)
    if not client.exists(names.run_info(), names.dead()):
        known = runs_on(client)
        more = hint(name, known) if known else "it holds no run at all."
        raise SettingsError(f"there is no run {name!r} on this server: {more}")
    return names


def _only(known: list[str]) -> str:
    if not known:
        raise SettingsError("this server holds no run: `roomgrad up trebuchet` begins one")
    if len(known) > 1:
        raise SettingsError(f"which run? There are {', '.join(known)}: name one by --run")
    return known[0]


def room(client: redis.Redis, names: Names, name: str) -> str:
    """The room that is meant. Raises SettingsError with what was meant, or what there is."""
    known = rooms(client, names)
    if name not in known:
        raise SettingsError(f"run {names.run} has no room {name!r}: {hint(name, known)}")
    return name


def rooms(client: redis.Redis, names: Names) -> list[str]:
    """The rooms of a run: of its contract, and whatever else has a stream."""
    places = [place(names, key) for key in keys_of(client, names)]
    return sorted({room for room, _ in places} | {ERRORS, LOGGING})


def component(client: redis.Redis, names: Names, name: str) -> str:
    """The component that is meant. Raises SettingsError with what was meant, or what there is."""
    known = sorted(components_of(client, names))
    if name not in known:
        more = hint(name, known) if known else "none has ever run in it."
        raise SettingsError(f"run {names.run} has no component {name!r}: {more}")
    return name
