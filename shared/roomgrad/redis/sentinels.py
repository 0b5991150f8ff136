"""Redis Sentinel: which of several servers is the master, and connections to it."""

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
from roomgrad.redis import tls

ASK_S = 0.5  # a sentinel that takes longer is skipped
POLL_EVERY_S = 1.0

Address = tuple[str, int]  # host and port
Silent = dict[Address, Exception]  # who was asked in vain, and why

HELLO = (b"HELLO", b"2")
NO_MASTER = "this server is a replica: the process that named it does not know yet"


class Sentinels:
    """Processes that monitor servers and agree on which of them is the master."""

    def __init__(
        self, name: str, addresses: list[Address], credentials: dict[str, Any], tls: dict[str, Any]
    ) -> None:
        self.name = name
        self.addresses = addresses
        self._order = list(addresses)
        self._tls = tls
        # Sentinels may want no password, or that of the servers.
        self._credentials = [{}, credentials] if credentials else [{}]

    def master(self) -> Address:
        """Return where the master is now. Raises NoServer if no sentinel knows one.

        The sentinel that answered last is asked first. If it finds the master down, the others are
        asked, which may know the next master already.
        """
        silent: Silent = {}
        known: set[str] = set()
        for address in self._order:
            try:
                masters = self._masters(address)
            except (redis.RedisError, OSError) as error:
                silent[address] = error
                continue
            known |= set(masters)
            if found := self._usable(masters):
                self._order = [address, *(each for each in self.addresses if each != address)]
                return found
        raise failure(self._trouble(silent, known), silent)

    def poll(self) -> Address | None:
        """Return where the master is by the sentinel that answered last, in bounded time.

        Returns None if it does not know; then another one is asked the next time.
        """
        found = None
        with contextlib.suppress(redis.RedisError, OSError):
            found = self._usable(self._masters(self._order[0]))
        if found is None:
            self.mark_stale()
        return found

    def mark_stale(self) -> None:
        """Ask another sentinel first the next time, since the last answer was wrong."""
        first, *others = self._order
        self._order = [*others, first]

    def _usable(self, masters: dict[str, Any]) -> Address | None:
        found = masters.get(self.name)
        if not found or found["is_sdown"] or found["is_odown"]:
            return None
        return str(found["ip"]), int(found["port"])

    def discover_master(self, name: str) -> Address:
        """Return the master for redis-py's pool, to which an error counts as an outage."""
        try:
            return self.master()
        except NoServer as error:
            raise redis.ConnectionError(str(error)) from error

    def _masters(self, address: Address) -> dict[str, Any]:
        """Return what a sentinel reports of each master that it monitors."""
        for credentials in self._credentials:
            try:
                return self._ask(address, credentials)
            except redis.AuthenticationError as error:
                refused = error
        raise refused

    def _ask(self, address: Address, credentials: dict[str, Any]) -> dict[str, Any]:
        host, port = address
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

    def _trouble(self, silent: Silent, known: set[str]) -> str:
        if self.name in known:
            return (
                f"no master of {self.name!r} is elected now: the sentinels find the last one down "
                f"and choose another one, so try again in some seconds"
            )
        if not known and (reason := refusal(silent)):
            return f"the sentinels refuse {reason}"
        if not known and silent:
            return f"no sentinel answers; tried: {listed(silent)}"
        names = ", ".join(map(repr, sorted(known))) or "none"
        return f"the sentinels know no master {self.name!r}: they know {names}"


def listed(silent: Silent) -> str:
    """Return who was asked in vain, each with the reason."""
    return ", ".join(f"{host}:{port} ({error})" for (host, port), error in silent.items())


def refusal(silent: Silent, run: str = "") -> str:
    """Return what is refused and what helps, if one refuses the password or the user's rights."""
    for (host, port), error in silent.items():
        if isinstance(error, redis.AuthenticationError):
            return (
                f"the password, as {host}:{port} says ({error}): put the right one into the file "
                f"that REDIS_PASSWORD_FILE names"
            )
        if isinstance(error, redis.exceptions.NoPermissionError):
            needed = f"`roomgrad acl --run {run or 'RUN'}` prints the rules that it needs"
            return f"this user, as {host}:{port} says ({error}): {needed}"
    return ""


def failure(reason: str, silent: Silent) -> NoServer:
    """Return the error to raise: a TLSError if none of those that were asked can be trusted."""
    untrusted = [tls.explain(each, None, {}, tls=True) for each in silent.values()]
    first = next(iter(untrusted), None)
    return first if first and all(untrusted) else NoServer(reason)


class MasterResolver(Protocol):
    """Finds which of several servers is the master."""

    name: str

    def master(self) -> Address:
        """Return where the master is now. Raises NoServer if it is unknown."""

    def poll(self) -> Address | None:
        """Return the same by the process that answered last, in bounded time; None if unknown."""

    def mark_stale(self) -> None:
        """Ask another process first the next time, since the last answer was wrong."""

    def discover_master(self, name: str) -> Address:
        """Return `master` for redis-py's pool. Raises redis.ConnectionError."""


class MasterPool(SentinelConnectionPool):
    """Connections of redis-py to the master, which is looked up for each and once a second.

    A master that was replaced while it was frozen or cut off may not know it for seconds, and
    loses what is written until then.
    """

    def __init__(self, resolver: MasterResolver, **options: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resolver.name, resolver, redis_connect_func=_greet, **options
        )
        self._resolver = resolver
        self._asked_at = time.monotonic()

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """Return a connection to the current master."""
        now = time.monotonic()
        if now - self._asked_at > POLL_EVERY_S:
            self._asked_at = now
            if self._resolver.poll() not in (None, self.master_address):
                self.get_master_address()  # type: ignore[no-untyped-call]  # closes the idle ones
        return super().get_connection()


def _greet(connection: Any) -> None:
    """Log in, and refuse a server that is no longer a master."""
    connection.on_connect()
    connection.send_command(*HELLO)
    if not is_master(connection.read_response()):
        raise redis.ConnectionError(NO_MASTER)


def is_master(hello: Sequence[Any]) -> bool:
    """Return whether a master sent this reply to HELLO, which no ACL can forbid, unlike ROLE."""
    role: bytes = dict(zip(hello[::2], hello[1::2], strict=True))[b"role"]
    return role == b"master"
