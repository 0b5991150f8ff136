"""What a server holds: which runs, and which of them a command means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import unquote

import redis

from roomgrad.addresses import shown
from roomgrad.commands.plan import find_system, hint
from roomgrad.commands.session import password_file
from roomgrad.errors import NoServer, ServerError, SettingsError
from roomgrad.names import Names
from roomgrad.server import address, connect

LOOKS = 1000  # SCANs of a thousand keys each: whoever shares the server may have very many


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


def scanned(client: redis.Redis, pattern: str, kind: str | None = None) -> list[str]:
    """The keys of a pattern; of a very large server, those that were found soon."""
    found: set[str] = set()
    cursor = 0
    for _ in range(LOOKS):
        answer: Any = client.scan(cursor, match=pattern, count=1000, _type=kind)
        cursor, keys = answer
        found |= {key.decode(errors="replace") for key in keys}
        if cursor == 0:
            break
    return sorted(found)


def runs_on(client: redis.Redis) -> list[str]:
    """The names of the runs on a server."""
    keys = scanned(client, "{*}:run", "hash")
    return [unquote(key[1 : -len("}:run")]) for key in keys]


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
