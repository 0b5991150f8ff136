"""Which server a command means, and which of its runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis

from roomgrad.addresses import shown
from roomgrad.commands.plan import find_system, hint
from roomgrad.commands.session import password_file
from roomgrad.errors import NoServer, ServerError, SettingsError
from roomgrad.inspection.keys import runs_on
from roomgrad.names import Names
from roomgrad.server import address, connect


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
            raise NoServer(f"the server at {shown(url)} is gone: {error}") from error
        except redis.ResponseError as error:
            raise ServerError(f"the server at {shown(url)} refuses: {error}") from error


def chosen(client: redis.Redis, run: str, system: str = "") -> Names:
    """The run that is meant: by its name, by its system, or the only one that there is.

    Raises SettingsError with the runs that there are.
    """
    name = run or os.environ.get("RUN", "") or (find_system(system).name if system else "")
    if not name:
        return Names(_only(runs_on(client)))
    names = Names(name)
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
