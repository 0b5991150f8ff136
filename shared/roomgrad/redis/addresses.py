"""Server addresses: what they say, and to which server they lead now.

An address names a server, `redis://host:6379/0`; or sentinels, which know which of several servers
is the master, `redis+sentinel://host1:26379,host2:26379/NAME/0`; or nodes of a cluster, each of
which knows the node that serves a run, `redis+cluster://host1:7000,host2:7001`. Sentinels and nodes
are asked again for each new connection.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from functools import lru_cache
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from redis.connection import parse_url

from roomgrad.commit import PUBLISH, SPUBLISH
from roomgrad.errors import NoServer, ServerError
from roomgrad.redis import tls
from roomgrad.redis.cluster import Cluster
from roomgrad.redis.passwords import with_password_file
from roomgrad.redis.sentinels import Address, MasterResolver, Sentinels

SENTINEL_PORT = 26379
NODE_PORT = 6379
MAX_RESOLVERS = 1000  # runs of clusters that one process keeps resolvers for


def without_password(url: str) -> str:
    """Return an address without its password, and without the run that it is bound to."""
    url = for_run(url, "")
    return re.sub(r"(//[^:/@]*):[^@/]*@", r"\1:***@", url)


def for_run(url: str, run: str) -> str:
    """Return the address of a cluster, bound to the node that serves a run; others unchanged.

    An empty run removes the binding.
    """
    if not _is_cluster(url):
        return url
    bare = url.partition("#")[0]
    return f"{bare}#{quote(run, safe='')}" if run else bare


def redis_cli(url: str, run: str, password_file: str = "") -> str:
    """Return how a redis-cli command for this address begins, without the password.

    redis-cli knows no Sentinel, and takes the file of a CA by an option of its own.
    """
    follows = " -c" if _is_cluster(url) else ""
    url = for_run(url, run)
    with contextlib.suppress(NoServer):  # while none is elected
        url = resolve(url, password_file=password_file)
    plain, ca_file = tls.split_ca(url)
    ca = f" --cacert {shlex.quote(ca_file)}" if ca_file else ""
    return f"redis-cli{follows} -u {without_password(plain)}{ca}"


def subscribe_command(url: str) -> str:
    """Return the command that subscribes to a channel."""
    return "SSUBSCRIBE" if _is_cluster(url) else "SUBSCRIBE"


def publish_command(url: str) -> bytes:
    """Return the command that publishes on a channel: a cluster assigns channels to slots, too."""
    return SPUBLISH if _is_cluster(url) else PUBLISH


def options_of(url: str) -> dict[str, Any]:
    """Return what an address says: user, password, database, and the host if it names one.

    Raises ServerError if it is not an address, or would trust any server.
    """
    try:
        parts = urlsplit(url)
        tls.check(url)
        if _is_sentinel(parts):
            return _options(parts)
        if _is_cluster(url):
            return _options_of_node(parts)
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ServerError(
            f"{without_password(url)!r} is not a server address: "
            f"expected redis://localhost:6379/0, "
            f"redis+sentinel://host1:26379,host2:26379/NAME/0 for sentinels, "
            f"or redis+cluster://host1:6379,host2:6379 for a cluster"
        ) from error


@lru_cache(MAX_RESOLVERS)
def resolver_of(url: str, password_file: str = "") -> MasterResolver | None:
    """Return what finds the master of an address, or None if the address names the server itself.

    All connections of a process share it. password_file: for the nodes of a cluster, which want a
    password, too; sentinels have those of the address.
    """
    options = options_of(url)
    parts = urlsplit(url)
    if not (_is_sentinel(parts) or _is_cluster(url)):
        return None
    secure = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls.uses_tls(url):
        secure["connection_class"] = tls.VerifiedConnection
    credentials: dict[str, Any] = {
        name: options[name] for name in ("username", "password") if name in options
    }
    if _is_sentinel(parts):
        return Sentinels(_name(parts), _addresses(parts, SENTINEL_PORT), credentials, secure)
    _, options = with_password_file(url, {**credentials, **secure}, password_file)
    return Cluster(unquote(parts.fragment), _addresses(parts, NODE_PORT), options)


def resolve(url: str, server: Address | None = None, password_file: str = "") -> str:
    """Return the plain address of the one server that is to be used now.

    server: host and port, if they are known already. Raises NoServer if there is none now.
    """
    resolver = resolver_of(url, password_file)
    if resolver is None:
        return url
    host, port = server or resolver.master()
    parts = urlsplit(url)
    host = f"[{host}]" if ":" in host else host
    return _plain(parts, f"{host}:{port}")


def _is_cluster(url: str) -> bool:
    return url.startswith(("redis+cluster://", "rediss+cluster://"))


def _is_sentinel(parts: SplitResult) -> bool:
    return parts.scheme in ("redis+sentinel", "rediss+sentinel")


def _options(parts: SplitResult) -> dict[str, Any]:
    """Return what an address says of the server behind sentinels. Raises ValueError."""
    _name(parts)
    _addresses(parts, SENTINEL_PORT)
    return _without_host(_plain(parts, "any"))


def _options_of_node(parts: SplitResult) -> dict[str, Any]:
    """Return what an address says of each node of a cluster, whose only database is 0.

    Raises ValueError.
    """
    _addresses(parts, NODE_PORT)
    options = _without_host(_plain(parts, "any"))
    if parts.path not in ("", "/", "/0"):
        raise ValueError("a cluster has no other database than 0")
    options.pop("db", None)
    return options


def _without_host(url: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    return {name: options[name] for name in options if name not in ("host", "connection_class")}


def _plain(parts: SplitResult, server: str) -> str:
    """Return the same address for one server. Raises ValueError."""
    user, at, _ = parts.netloc.rpartition("@")
    database = int(parts.path.strip("/").partition("/")[2] or 0)
    question = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.partition('+')[0]}://{user}{at}{server}/{database}{question}"


def _name(parts: SplitResult) -> str:
    name = parts.path.strip("/").partition("/")[0]
    if not name:
        raise ValueError("it names no master")
    return name


def _addresses(parts: SplitResult, port: int) -> list[Address]:
    """Return the sentinels or nodes that an address names. Raises ValueError."""
    hosts = parts.netloc.rpartition("@")[2].split(",")
    found = [urlsplit(f"//{host}") for host in hosts]
    if not all(each.hostname for each in found):
        raise ValueError("it names no host")
    return [(str(each.hostname), each.port or port) for each in found]
