"""Sentinels: who knows which of several servers is the master, and connections to that one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from roomgrad.errors import NoServer

ASK_S = 0.5  # a sentinel that takes longer is passed over
POLL_EVERY_S = 1.0

Address = tuple[str, int]  # host and port

HELLO = (b"HELLO", b"2")
NO_MASTER = "this server is a replica: who named it has not heard so yet"


class Sentinels:
    """Processes that watch over servers and agree on which of them is the master."""

    def __init__(
        self, name: str, places: list[Address], who: dict[str, Any], tls: dict[str, Any]
    ) -> None:
        self.name = name
        self.places = places
        self._order = list(places)
        self._tls = tls
        self._credentials = [{}, who] if who else [{}]  # those of the servers, if it wants any

    def master(self) -> Address:
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

    def poll(self) -> Address | None:
        """Where the master is as the sentinel says that answered last, asked in bounded time.

        None if it does not know; then another one is asked the next time.
        """
        found = None
        with contextlib.suppress(redis.RedisError, OSError):
            found = self._usable(self._masters(self._order[0]))
        if found is None:
            self.mark_stale()
        return found

    def mark_stale(self) -> None:
        """What was answered last was wrong: another one is asked first the next time."""
        first, *others = self._order
        self._order = [*others, first]

    def _usable(self, masters: dict[str, Any]) -> Address | None:
        found = masters.get(self.name)
        if not found or found["is_sdown"] or found["is_odown"]:
            return None
        return str(found["ip"]), int(found["port"])

    def discover_master(self, name: str) -> Address:
        """The same as redis-py's connection pool asks for it: its errors count as an outage."""
        try:
            return self.master()
        except NoServer as error:
            raise redis.ConnectionError(str(error)) from error

    def _masters(self, place: Address) -> dict[str, Any]:
        """What a sentinel says of each master that it knows."""
        for credentials in self._credentials:
            try:
                return self._ask(place, credentials)
            except redis.AuthenticationError as error:
                refused = error
        raise refused

    def _ask(self, place: Address, credentials: dict[str, Any]) -> dict[str, Any]:
        host, port = place
        pool = redis.ConnectionPool(
            host=host,
            port=port,
            protocol=2,
            socket_timeout=ASK_S,
            socket_connect_timeout=ASK_S,
            retry=Retry(NoBackoff(), 0),
            **credentials,
            **self._tls,
        )
        with redis.Redis.from_pool(pool) as sentinel:
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


class MasterResolver(Protocol):
    """Who knows which of several servers is the master."""

    name: str

    def master(self) -> Address:
        """Where the master is now. Raises NoServer when nobody knows one."""

    def poll(self) -> Address | None:
        """The same as who answered last says, asked in bounded time; None if it does not know."""

    def mark_stale(self) -> None:
        """What was answered last was wrong: another one is asked first the next time."""

    def discover_master(self, name: str) -> Address:
        """The same as `master` for redis-py's pool. Raises redis.ConnectionError."""


class MasterPool(SentinelConnectionPool):
    """Connections of redis-py to the master, asked for with each new one and once a second.

    A master that was replaced while it was frozen or cut off may not know it for seconds, and
    loses what it is told until then.
    """

    def __init__(self, resolver: MasterResolver, **options: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resolver.name, resolver, redis_connect_func=_greet, **options
        )
        self._resolver = resolver
        self._asked_at = time.monotonic()

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """One to the master that is named now."""
        now = time.monotonic()
        if now - self._asked_at > POLL_EVERY_S:
            self._asked_at = now
            if self._resolver.poll() not in (None, self.master_address):
                self.get_master_address()  # type: ignore[no-untyped-call]  # hangs up the idle ones
        return super().get_connection()


def _greet(connection: Any) -> None:
    """A greeting for servers of several: one that was a master is not used any more."""
    connection.on_connect()
    connection.send_command(*HELLO)
    if not is_master(connection.read_response()):
        raise redis.ConnectionError(NO_MASTER)


def is_master(hello: Sequence[Any]) -> bool:
    """Whether a master has answered this to HELLO, which no ACL can forbid, as it can ROLE."""
    role: bytes = dict(zip(hello[::2], hello[1::2], strict=True))[b"role"]
    return role == b"master"
