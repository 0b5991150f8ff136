"""The gateway's client of the Redis server, which survives outages of any length."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import redis
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from roomgrad.commit import SPUBLISH
from roomgrad.errors import NoServer
from roomgrad.redis import tls
from roomgrad.redis.addresses import for_run, publish_command, resolve, resolver_of
from roomgrad.redis.cluster import REDIRECT_ERRORS
from roomgrad.redis.outage import Outage
from roomgrad.redis.passwords import with_password_file
from roomgrad.redis.sentinels import Address
from roomgrad.redis.server import ANSWER_S, CONNECT_TIMEOUT_S, MASTER_ANSWER_S, explain_tls
from roomgrad.redis.server_address import AnyAddress, ServerAddress

log = structlog.get_logger("roomgrad")

RETRY_S = (0.05, 0.25)  # first and longest pause between two attempts
POLL_S = 0.5  # between two questions for the master

TEMPORARY = ("NOREPLICAS", "BUSY")
FULL_RETRY_S = 1.0
LOST = (redis.ConnectionError, redis.TimeoutError, OSError, NoServer, TimeoutError)

T = TypeVar("T")
Client = Any  # redis.asyncio.Redis, whose annotations are those of both its kinds


def cancellations() -> int:
    """Return how often the current task was cancelled."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def raise_lost_cancellation(before: int) -> None:
    """Raise CancelledError if the task was cancelled since then.

    redis-py sends by `asyncio.wait_for`, which in Python 3.11 loses a cancellation that arrives as
    it ends: https://github.com/python/cpython/issues/86296
    """
    if cancellations() > before:
        raise asyncio.CancelledError


def _client(where: ServerAddress, options: dict[str, Any]) -> Client:
    """Return a client of one server; redis-py's own TLS trusts more CAs than the one named."""
    if where.tls:
        options["connection_class"] = tls.VerifiedAsyncConnection
    elif where.kind == "socket":
        options["connection_class"] = redis.asyncio.UnixDomainSocketConnection
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options))


class RedisClient:
    """Run commands until they succeed, on a new client of the current master after each loss.

    publish: PUBLISH, or SPUBLISH on a cluster. losses: how often the connection was lost; the
    replies to commands sent just then may be lost, too.
    """

    def __init__(self, url: AnyAddress, password_file: str, run: str) -> None:
        self._url = for_run(url, run)
        self._password_file = password_file
        self._resolver = resolver_of(self._url, password_file)
        self.publish = publish_command(url)
        self.database = self._url.database
        self.is_sharded = self.publish == SPUBLISH
        self._client: Client = None
        self._master: Address | None = None
        self._pause_s = RETRY_S[0]
        self._outage = Outage()
        self.losses = 0

    async def do(self, work: Callable[[Client], Awaitable[T]], *, patient: bool = True) -> T:
        """Return the result of `work`, which is called again after each loss of the server.

        patient: call it again also while memory or disk of the server is full.
        """
        before = cancellations()
        while True:
            raise_lost_cancellation(before)
            client: Client = None
            try:
                client = await self.client()
                result = await work(client)
            except redis.ResponseError as error:
                if patient and _is_full(error):
                    log.error("the server refuses; trying again", reason=str(error))
                    await asyncio.sleep(FULL_RETRY_S)
                elif _is_temporary(error):
                    await self._lose(client, error)
                else:
                    raise
            except Exception as error:
                # If another task has closed the client, redis-py raises whatever it stumbles over.
                if not isinstance(error, LOST) and client is self._client:
                    raise
                await self._lose(client, error)
            else:
                raise_lost_cancellation(before)
                if self._outage:
                    self._pause_s = RETRY_S[0]
                    self._outage.end()
                    log.info("the server answers again")
                return result

    async def client(self) -> Client:
        """Return the client of the current server. Raises one of `LOST`."""
        if self._client is None:
            where = await asyncio.to_thread(self._locate)
            options: dict[str, Any] = {
                **where.options(),
                "protocol": 2,
                "decode_responses": False,
                "socket_timeout": MASTER_ANSWER_S if self._resolver else ANSWER_S,
                "socket_connect_timeout": CONNECT_TIMEOUT_S,
                "retry": Retry(NoBackoff(), 0),
            }
            options = with_password_file(options, self._password_file)
            if self._client is None:  # no other task was faster
                self._client = _client(where, options)
        return self._client

    def _locate(self) -> ServerAddress:
        if self._resolver is None:
            return self._url
        self._master = self._resolver.master()
        return resolve(self._url, self._master)

    async def _lose(self, client: Client, error: Exception) -> None:
        if client is self._client:  # otherwise another task has noticed it before
            self.losses += 1
            await self.close()
            reason = await asyncio.to_thread(explain_tls, error, self._url) or error
            if self._outage.is_news(reason):
                log.warning("lost the server, trying again", reason=str(reason))
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, RETRY_S[1])

    async def watch(self) -> None:
        """Leave a master that was replaced, even if its connections stay open."""
        while self._resolver is not None:
            await asyncio.sleep(POLL_S)
            master = await asyncio.to_thread(self._resolver.poll)
            if self._client is not None and master not in (None, self._master):
                log.info("another master is named")
                self.losses += 1
                await self.close()

    async def close(self) -> None:
        """Close the connections; commands that wait for a reply are sent again by `do`."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*LOST):
                await client.aclose()
                await client.connection_pool.disconnect(inuse_connections=True)


def _is_temporary(error: redis.ResponseError) -> bool:
    kinds = (redis.ReadOnlyError, *REDIRECT_ERRORS)
    return isinstance(error, kinds) or str(error).startswith(TEMPORARY)


def _is_full(error: redis.ResponseError) -> bool:
    """Return whether memory or disk of the server is full."""
    return isinstance(error, redis.OutOfMemoryError) or str(error).startswith("MISCONF")
