"""What an address of a server says, and which server it means now.

An address names a server, `redis://host:6379/0`, or sentinels that know which of several servers is
the master: `redis+sentinel://host1:26379,host2:26379/NAME/0`, or nodes of a cluster, any of which
knows which one serves a run: `redis+cluster://host1:7000,host2:7001`. They are asked again for each
connection that is made.
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
MOST_RESOLVERS = 1000  # runs of clusters that one process has asked for lately


def without_password(url: str) -> str:
    """An address without its password, and without the run that is looked for behind it."""
    url = for_run(url, "")
    return re.sub(r"(//[^:/@]*):[^@/]*@", r"\1:***@", url)


def for_run(url: str, run: str) -> str:
    """The address of a cluster, bound to the node that serves a run; any other as it is.

    An empty run takes the binding away.
    """
    if not _is_cluster(url):
        return url
    bare = url.partition("#")[0]
    return f"{bare}#{quote(run, safe='')}" if run else bare


def redis_cli(url: str, run: str, password_file: str = "") -> str:
    """How people begin a redis-cli, which knows no Sentinel, without the password.

    redis-cli takes the file of a CA as a word of its own.
    """
    follows = " -c" if _is_cluster(url) else ""
    url = for_run(url, run)
    with contextlib.suppress(NoServer):  # while none is elected
        url = located(url, password_file=password_file)
    plain, ca_file = tls.split_ca(url)
    ca = f" --cacert {shlex.quote(ca_file)}" if ca_file else ""
    return f"redis-cli{follows} -u {without_password(plain)}{ca}"


def subscribe_command(url: str) -> str:
    """The command by which people hear a channel."""
    return "SSUBSCRIBE" if _is_cluster(url) else "SUBSCRIBE"


def publish_command(url: str) -> bytes:
    """The command that rings: on a cluster, channels belong to slots as keys do."""
    return SPUBLISH if _is_cluster(url) else PUBLISH


def options_of(url: str) -> dict[str, Any]:
    """What an address says: user, password, database, and the host where it names one.

    Raises ServerError if it is no address, or one that would trust any server.
    """
    try:
        parts = urlsplit(url)
        tls.check(url)
        if _names_sentinels(parts):
            return _options(parts)
        if _is_cluster(url):
            return _options_of_node(parts)
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ServerError(
            f"{without_password(url)!r} is not a server address: "
            f"one looks like redis://localhost:6379/0, "
            f"or redis+sentinel://host1:26379,host2:26379/NAME/0 where sentinels know it, "
            f"or redis+cluster://host1:6379,host2:6379 for a cluster"
        ) from error


@lru_cache(MOST_RESOLVERS)
def resolver_of(url: str, password_file: str = "") -> MasterResolver | None:
    """Who knows where the master is of which an address speaks, or None where it names the server.

    All connections of a process ask the same. password_file: nodes of a cluster want a password,
    too; sentinels have those of the address.
    """
    options = options_of(url)
    parts = urlsplit(url)
    if not (_names_sentinels(parts) or _is_cluster(url)):
        return None
    secure = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls.uses_tls(url):
        secure["connection_class"] = tls.VerifiedConnection
    who: dict[str, Any] = {
        name: options[name] for name in ("username", "password") if name in options
    }
    if _names_sentinels(parts):
        return Sentinels(_name(parts), _places(parts, SENTINEL_PORT), who, secure)
    _, who = with_password_file(url, {**who, **secure}, password_file)
    return Cluster(unquote(parts.fragment), _places(parts, NODE_PORT), who)


def located(url: str, at: Address | None = None, password_file: str = "") -> str:
    """The address of the one server that is meant now, for who knows neither of these.

    at: where it is, if that has been asked already. Raises NoServer where there is none now.
    """
    resolver = resolver_of(url, password_file)
    if resolver is None:
        return url
    host, port = at or resolver.master()
    parts = urlsplit(url)
    host = f"[{host}]" if ":" in host else host
    return _plain(parts, f"{host}:{port}")


def _is_cluster(url: str) -> bool:
    return url.startswith(("redis+cluster://", "rediss+cluster://"))


def _names_sentinels(parts: SplitResult) -> bool:
    return parts.scheme in ("redis+sentinel", "rediss+sentinel")


def _options(parts: SplitResult) -> dict[str, Any]:
    """What is said of the server behind sentinels. Raises ValueError."""
    _name(parts)
    _places(parts, SENTINEL_PORT)
    return _without_host(_plain(parts, "any"))


def _options_of_node(parts: SplitResult) -> dict[str, Any]:
    """What is said of each node of a cluster, which has the database 0 alone. Raises ValueError."""
    _places(parts, NODE_PORT)
    options = _without_host(_plain(parts, "any"))
    if parts.path not in ("", "/", "/0"):
        raise ValueError("a cluster has no other database than 0")
    options.pop("db", None)
    return options


def _without_host(url: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    return {name: options[name] for name in options if name not in ("host", "connection_class")}


def _plain(parts: SplitResult, server: str) -> str:
    """The same address of one server. Raises ValueError."""
    user, at, _ = parts.netloc.rpartition("@")
    database = int(parts.path.strip("/").partition("/")[2] or 0)
    question = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.partition('+')[0]}://{user}{at}{server}/{database}{question}"


def _name(parts: SplitResult) -> str:
    name = parts.path.strip("/").partition("/")[0]
    if not name:
        raise ValueError("it names no master")
    return name


def _places(parts: SplitResult, port: int) -> list[Address]:
    """The sentinels or nodes that are named."""
    hosts = parts.netloc.rpartition("@")[2].split(",")
    found = [urlsplit(f"//{host}") for host in hosts]
    if not all(each.hostname for each in found):
        raise ValueError("it names no host")
    return [(str(each.hostname), each.port or port) for each in found]
