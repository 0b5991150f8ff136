"""The target of a command: its server, its run, and a room or a component of that run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import redis

from roomgrad import variables
from roomgrad.errors import NoServer, ServerError, SettingsError
from roomgrad.inspect.keys import parse_stream_key, runs_on, stream_keys
from roomgrad.local.plan import find_system, hint
from roomgrad.local.session import password_file
from roomgrad.names import ERRORS, GATEWAY, LOGGING, Names
from roomgrad.redis import registry
from roomgrad.redis.client import Client
from roomgrad.redis.cluster import switch_run
from roomgrad.redis.registry import components_of
from roomgrad.redis.server import address, connect
from roomgrad.redis.server_address import AnyAddress, ServerAddress
from roomgrad.rooms import System
from roomgrad.systems import installed


@contextmanager
def connected(redis_url: AnyAddress) -> Iterator[tuple[redis.Redis, ServerAddress]]:
    """Connect to a server; yield the client and its address.

    Raises NoServer or ServerError if the server is away, or refuses something in the block.
    """
    url = address(redis_url)
    server = f"the server at {url}"
    with closing(connect(url, password_file())) as client:
        try:
            yield client, url
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise NoServer(f"{server} is gone: {error}") from error
        except redis.exceptions.NoPermissionError as error:
            raise ServerError(
                f"{server} does not allow it ({error}): name another user in the address "
                f"(redis://NAME:PASSWORD@HOST), or allow it by ACL SETUSER"
            ) from error
        except redis.exceptions.AskError as error:
            raise ServerError(
                f"{server} is a node of a cluster ({error}): name it as redis+cluster://HOST:PORT"
            ) from error
        except redis.ResponseError as error:
            raise ServerError(f"{server} refuses: {error}") from error


@contextmanager
def opened(
    run: str, redis_url: AnyAddress, system: str = ""
) -> Iterator[tuple[redis.Redis, Names, ServerAddress]]:
    """Connect to the server of a run; yield the client, the run and the server's address.

    The run is chosen as by `choose_run`. Raises what `connected` and `choose_run` raise.
    """
    with connected(redis_url) as (client, url):
        yield client, choose_run(client, run, system), url


def choose_run(client: redis.Redis, run: str, system: str = "") -> Names:
    """Return the run by its name, by the environment's RUN, by its system, or the only one.

    On a cluster, the client connects to the node that serves it.

    Raises SettingsError with the runs that exist.
    """
    name = run or variables.get("run") or (find_system(system).name if system else "")
    name = name or _only(runs_on(client))
    names = Names(name)
    switch_run(client, name)
    if not client.exists(names.run_info(), names.dead()):
        known = runs_on(client)
        more = hint(name, known) if known else "it holds no run at all."
        raise SettingsError(f"there is no run {name!r} on this server: {more}")
    return names


def run_of(component: str, run: str, redis_url: str) -> str:
    """Return the run of a component: the one named, that of its system, or that it has served.

    Raises SettingsError if no run on the server has had this component, or several have.
    """
    if found := run or variables.get("run") or default_run_of(component):
        return found
    with connected(redis_url) as (client, _):
        by_run = {each: components_of(client, Names(each)) for each in runs_on(client)}
    served = [each for each, components in by_run.items() if component in components]
    if len(served) == 1:
        return served[0]
    if served:
        raise SettingsError(f"{component} is in {', '.join(served)}: name one by --run")
    known = {name for each in installed().values() for name in each.system.components}
    known |= {name for components in by_run.values() for name in components}
    raise SettingsError(f"there is no component {component!r}: {hint(component, sorted(known))}")


def default_run_of(component: str) -> str:
    """Return the system of a component, after which its run is named; empty if none is known."""
    if component == GATEWAY:  # it reads the same variable
        return variables.get("system")
    modules = {component, component.rpartition(".")[0]}  # its own, or that of its ensemble
    systems = (name for name, plugin in installed().items() if modules & plugin.modules.keys())
    return next(systems, "")


def _only(known: list[str]) -> str:
    if not known:
        raise SettingsError(
            "this server holds no run: `roomgrad up SYSTEM` or `docker compose up` begins one"
        )
    if len(known) > 1:
        raise SettingsError(f"which run? There are {', '.join(known)}: name one by --run")
    return known[0]


def choose_room(client: redis.Redis, names: Names, name: str) -> str:
    """Return the name of a room of a run. Raises SettingsError with the rooms that exist."""
    rooms = {parse_stream_key(names, key)[0] for key in stream_keys(client, names)}
    known = sorted(rooms | {ERRORS, LOGGING})
    if name not in known:
        raise SettingsError(f"run {names.run} has no room {name!r}: {hint(name, known)}")
    return name


def choose_component(client: redis.Redis, names: Names, name: str) -> str:
    """Return the name of a component of a run. Raises SettingsError with those that exist."""
    known = sorted(components_of(client, names))
    if name not in known:
        more = hint(name, known) if known else "none has ever run in it."
        raise SettingsError(f"run {names.run} has no component {name!r}: {more}")
    return name


def contract_of(client: redis.Redis, names: Names) -> System:
    """Return the contract of a run. Raises SettingsError if it is unknown."""
    system = registry.system_of_run(client, names)
    if system is None:
        raise SettingsError(
            f"the contract of run {names.run} is unknown: start one of its components, which "
            f"stores it"
        )
    return system


def sender(names: Names, url: AnyAddress, system: System) -> Client:
    """Return a client that sends into the rooms of a run."""
    return Client(system, names.run, url, password_file(), name="roomgrad")
