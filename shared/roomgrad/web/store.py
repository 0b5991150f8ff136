"""A page's connection to the Redis server, which may be unavailable at any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
import redis

from roomgrad.errors import ServerError, Unavailable
from roomgrad.redis.client import Client

ANSWERS_IN_S = 8.0  # a command that waits for the server's disk takes up to 5


C = TypeVar("C", redis.Redis, Client)
T = TypeVar("T")


class Store(Generic[C]):
    """One connection for all requests, opened by the first one that succeeds."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect: Callable[[], C] = connect
        self._connection: C | None = None
        self._lock = threading.Lock()

    def do(self, work: Callable[[C], T]) -> T:
        """Return `work(connection)`, called in this thread. Raises Unavailable."""
        try:
            return work(self._connected())
        except (redis.RedisError, ServerError, OSError) as error:
            raise Unavailable(f"the server of this run cannot do it now: {error}") from error

    async def ask(self, work: Callable[[C], T]) -> T:
        """Return `work(connection)`, called in another thread. Raises Unavailable after 8 s."""
        try:
            with anyio.fail_after(ANSWERS_IN_S):
                return await anyio.to_thread.run_sync(self.do, work, abandon_on_cancel=True)
        except TimeoutError as error:
            raise Unavailable(
                f"the server of this run did not answer in {ANSWERS_IN_S:g} s"
            ) from error

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> C:
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection
