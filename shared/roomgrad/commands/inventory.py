"""What a server holds: which runs, which of them a command means, and whose contract it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import unquote

import redis

from roomgrad.addresses import shown
from roomgrad.commands.plan import SYSTEMS, find_system, hint
from roomgrad.commands.session import password_file
from roomgrad.errors import NoServer, ServerError, SettingsError
from roomgrad.names import GATEWAY, Names
from roomgrad.rooms import System
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


def system_of_run(client: redis.Redis, names: Names) -> System | None:
    """The contract that the components of a run keep to; None where no system here has them."""
    registered = components_of(client, names) - {GATEWAY}  # which takes part in any
    for system in SYSTEMS.values():
        if registered & set(system.components):
            return system
    return None if registered else SYSTEMS.get(names.run)


def components_of(client: redis.Redis, names: Names) -> set[str]:
    """The components that have ever served a run."""
    fields: list[bytes] = list(client.hkeys(names.run_info()))  # type: ignore[arg-type]
    texts = [field.decode(errors="replace") for field in fields]
    return {text.partition(":")[2] for text in texts if text.startswith("settings:")}
