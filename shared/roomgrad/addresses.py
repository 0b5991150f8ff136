"""What an address of a server says, and which server it means now.

An address names a server, `redis://host:6379/0`, or sentinels that know which of several servers is
the master: `redis+sentinel://host1:26379,host2:26379/NAME/0`. Such a one is asked again each time
that a connection is made.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.connection import parse_url

from roomgrad import tls
from roomgrad.errors import NoServer, ServerError
from roomgrad.sentinels import Place, Sentinels

SENTINEL_PORT = 26379


def shown(url: str) -> str:
    """An address without its password."""
    return re.sub(r"(//[^:/@]*):[^@/]*@", r"\1:***@", url)


def for_redis_cli(url: str) -> str:
    """An address as people give it to redis-cli, which knows no Sentinel, without its password.

    redis-cli takes the file of a CA as a word of its own.
    """
    with contextlib.suppress(NoServer):  # while none is elected
        url = located(url)
    plain, ca_file = tls.split(url)
    return shown(plain) + (f" --cacert {shlex.quote(ca_file)}" if ca_file else "")


def options_of(url: str) -> dict[str, Any]:
    """What an address says: user, password, database, and the host where it names one.

    Raises ServerError if it is no address, or one that would trust any server.
    """
    try:
        parts = urlsplit(url)
        tls.check(url)
        if _names_sentinels(parts):
            return _options(parts)
        return dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ServerError(
            f"{shown(url)!r} is no address of a server: one looks like redis://localhost:6379/0, "
            f"or redis+sentinel://host1:26379,host2:26379/NAME/0 where sentinels know it"
        ) from error


@cache
def sentinels_of(url: str) -> Sentinels | None:
    """The sentinels that an address names, or None; all connections of a process ask the same."""
    options = options_of(url)
    parts = urlsplit(url)
    if not _names_sentinels(parts):
        return None
    secure = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls.wanted(url):
        secure["connection_class"] = tls.Verified
    who: dict[str, Any] = {
        name: options[name] for name in ("username", "password") if name in options
    }
    return Sentinels(_name(parts), _places(parts), who, secure)


def located(url: str, at: Place | None = None) -> str:
    """The address of the one server that is meant now, for who knows no Sentinel.

    at: where it is, if that has been asked already. Raises NoServer where there is none now.
    """
    sentinels = sentinels_of(url)
    if sentinels is None:
        return url
    host, port = at or sentinels.master()
    parts = urlsplit(url)
    host = f"[{host}]" if ":" in host else host
    return _plain(parts, f"{host}:{port}")


def _names_sentinels(parts: SplitResult) -> bool:
    return parts.scheme in ("redis+sentinel", "rediss+sentinel")


def _options(parts: SplitResult) -> dict[str, Any]:
    """What is said of the server behind sentinels. Raises ValueError."""
    _name(parts)
    _places(parts)
    options: dict[str, Any] = dict(parse_url(_plain(parts, "any")))  # type: ignore[no-untyped-call]
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


def _places(parts: SplitResult) -> list[Place]:
    """The sentinels that are named."""
    hosts = parts.netloc.rpartition("@")[2].split(",")
    found = [urlsplit(f"//{host}") for host in hosts]
    if not all(each.hostname for each in found):
        raise ValueError("it names no host of a sentinel")
    return [(str(each.hostname), each.port or SENTINEL_PORT) for each in found]
