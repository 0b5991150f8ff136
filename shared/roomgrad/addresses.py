"""What an address of a server says, and which server it means now.

An address names a server, `redis://host:6379/0`, or sentinels that know which of several servers is
the master: `redis+sentinel://host1:26379,host2:26379/NAME/0`. Such a one is asked again each time
that a connection is made.
"""

from __future__ import annotations

import contextlib
import re
from functools import cache
from typing import Any
from urllib.parse import SplitResult, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from roomgrad.errors import NoServer, ServerError

ASK_S = 0.5  # a sentinel that takes longer is passed over
SENTINEL_PORT = 26379

Place = tuple[str, int]  # host and port


def shown(url: str) -> str:
    """An address without its password."""
    return re.sub(r"(//[^:/@]*):[^@/]*@", r"\1:***@", url)


def options_of(url: str) -> dict[str, Any]:
    """What an address says: user, password, database, and the host where it names one.

    Raises ServerError if it is no address.
    """
    try:
        parts = urlsplit(url)
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
    return Sentinels(parts, options) if _names_sentinels(parts) else None


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


class Sentinels:
    """Processes that watch over servers and agree on which of them is the master."""

    def __init__(self, parts: SplitResult, options: dict[str, Any]) -> None:
        self.name = _name(parts)
        self.places = _places(parts)
        self._order = list(self.places)
        given: dict[str, Any] = {
            key: options[key] for key in ("username", "password") if key in options
        }
        self._credentials = [{}, given] if given else [{}]  # those of the servers, if it wants any
        self._tls = {key: value for key, value in options.items() if key.startswith("ssl_")}
        if parts.scheme.startswith("rediss"):
            self._tls["ssl"] = True

    def master(self) -> Place:
        """Where the master is now. Raises NoServer when nobody knows one.

        The sentinel that answered last is asked first. One that finds the master down is not
        believed alone: another one may know the next master already.
        """
        silent: list[str] = []
        known: set[str] = set()
        for place in self._order:
            try:
                masters = self._masters(place)
            except (redis.RedisError, OSError) as error:
                silent.append(f"{place[0]}:{place[1]} ({error})")
                continue
            known |= set(masters)
            if found := self._usable(masters):
                self._order = [place, *(each for each in self.places if each != place)]
                return found
        raise NoServer(self._trouble(silent, known))

    def glance(self) -> Place | None:
        """Where the master is as the sentinel says that answered last, asked in bounded time.

        None if it does not know; then another one is asked the next time.
        """
        first, *others = self._order
        found = None
        with contextlib.suppress(redis.RedisError, OSError):
            found = self._usable(self._masters(first))
        if found is None:
            self._order = [*others, first]
        return found

    def _usable(self, masters: dict[str, Any]) -> Place | None:
        found = masters.get(self.name)
        if not found or found["is_sdown"] or found["is_odown"]:
            return None
        return str(found["ip"]), int(found["port"])

    def discover_master(self, name: str) -> Place:
        """The same as redis-py's connection pool asks for it: its errors count as an outage."""
        try:
            return self.master()
        except NoServer as error:
            raise redis.ConnectionError(str(error)) from error

    def _masters(self, place: Place) -> dict[str, Any]:
        """What a sentinel says of each master that it knows."""
        for credentials in self._credentials:
            try:
                return self._ask(place, credentials)
            except redis.AuthenticationError as error:
                refused = error
        raise refused

    def _ask(self, place: Place, credentials: dict[str, Any]) -> dict[str, Any]:
        host, port = place
        with redis.Redis(
            host=host,
            port=port,
            protocol=2,
            socket_timeout=ASK_S,
            socket_connect_timeout=ASK_S,
            retry=Retry(NoBackoff(), 0),
            **credentials,
            **self._tls,
        ) as sentinel:
            masters: dict[str, Any] = sentinel.sentinel_masters()
        return masters

    def _trouble(self, silent: list[str], known: set[str]) -> str:
        if self.name in known:
            return (
                f"no master of {self.name!r} is elected now: the sentinels find the last one down "
                f"and choose another one, so try again in some seconds"
            )
        if not known and silent:
            return f"no sentinel answers: asked were {', '.join(silent)}"
        names = ", ".join(map(repr, sorted(known))) or "none"
        return f"the sentinels know no master {self.name!r}: they know {names}"


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
