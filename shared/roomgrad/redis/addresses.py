"""To which server an address leads now: sentinels and nodes are asked for each new connection."""

from __future__ import annotations

import contextlib
import shlex
from functools import lru_cache
from typing import Any

from roomgrad.commit import PUBLISH, SPUBLISH
from roomgrad.errors import NoServer
from roomgrad.redis import tls
from roomgrad.redis.cluster import Cluster
from roomgrad.redis.passwords import with_password_file
from roomgrad.redis.sentinels import Address, MasterResolver, Sentinels
from roomgrad.redis.server_address import AnyAddress, ServerAddress, parse

MAX_RESOLVERS = 1000  # runs of clusters that one process keeps resolvers for


def for_run(address: AnyAddress, run: str) -> ServerAddress:
    """Return the address of a cluster, bound to the node that serves a run; others unchanged."""
    return parse(address).for_run(run)


def redis_cli(address: AnyAddress, run: str, password_file: str = "") -> str:
    """Return how a redis-cli command for this address begins, without the password.

    redis-cli knows no Sentinel, and takes a socket and the file of a CA by options of their own.
    """
    found = for_run(address, run)
    if found.kind == "socket":
        login = f" --user {shlex.quote(found.user)}" if found.user else ""
        return f"redis-cli -s {shlex.quote(found.path)} -n {found.database}{login}"
    follows = " -c" if found.kind == "cluster" else ""
    with contextlib.suppress(NoServer):  # while none is elected
        found = resolve(found, password_file=password_file)
    ca = f" --cacert {shlex.quote(found.ca_file)}" if found.ca_file else ""
    return f"redis-cli{follows} -u {found.without_files()}{ca}"


def subscribe_command(address: AnyAddress) -> str:
    """Return the command that subscribes to a channel."""
    return "SSUBSCRIBE" if parse(address).kind == "cluster" else "SUBSCRIBE"


def publish_command(address: AnyAddress) -> bytes:
    """Return the command that publishes on a channel: a cluster assigns channels to slots, too."""
    return SPUBLISH if parse(address).kind == "cluster" else PUBLISH


def resolver_of(address: AnyAddress, password_file: str = "") -> MasterResolver | None:
    """Return what finds the master of an address, or None if the address names the server itself.

    All connections of a process share it. password_file: for the nodes of a cluster, which want a
    password, too; sentinels have those of the address.
    """
    return _resolver(parse(address), password_file)


@lru_cache(MAX_RESOLVERS)
def _resolver(address: ServerAddress, password_file: str) -> MasterResolver | None:
    if address.kind not in ("sentinel", "cluster"):
        return None
    secure: dict[str, Any] = dict(address.files)
    if address.tls:
        secure["connection_class"] = tls.VerifiedConnection
    login = {"username": address.user, "password": address.password}
    credentials: dict[str, Any] = {name: value for name, value in login.items() if value}
    hosts = list(address.hosts)
    if address.kind == "sentinel":
        return Sentinels(address.master, hosts, credentials, secure)
    return Cluster(address.run, hosts, with_password_file({**credentials, **secure}, password_file))


def resolve(
    address: AnyAddress, server: Address | None = None, password_file: str = ""
) -> ServerAddress:
    """Return the plain address of the one server that is to be used now.

    server: host and port, if they are known already. Raises NoServer if there is none now.
    """
    found = parse(address)
    resolver = _resolver(found, password_file)
    return found if resolver is None else found.at(server or resolver.master())
