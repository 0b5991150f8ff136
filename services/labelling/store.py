"""The page's way to the server, which may be away for any time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import redis

from roomgrad.client import Client
from roomgrad.contracts.melody import LABELLING, MELODY
from roomgrad.errors import ServerError
from roomgrad.web.serving import Away

ANSWERS_IN_S = 8.0  # an acknowledgement of the disk takes up to 5
PATIENCE_S = 2.0

T = TypeVar("T")


class Store:
    """One `Client` for all requests, made when the server first answers."""

    def __init__(self, run: str, url: str, password_file: str) -> None:
        self._run = run
        self._url = url
        self._password_file = password_file
        self._client: Client | None = None
        self._lock = threading.Lock()

    def do(self, work: Callable[[Client], T]) -> T:
        """`work` with the client, in this thread. Raises Away."""
        try:
            return work(self._connected())
        except (redis.RedisError, ServerError, OSError) as error:
            raise Away(f"the server of this run cannot do it now: {error}") from error

    async def ask(self, work: Callable[[Client], T]) -> T:
        """`work` with the client, in another thread. Raises Away, in time."""
        try:
            with anyio.fail_after(ANSWERS_IN_S):
                return await anyio.to_thread.run_sync(self.do, work, abandon_on_cancel=True)
        except TimeoutError as error:
            raise Away(f"the server of this run did not answer in {ANSWERS_IN_S:g} s") from error

    def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            self._client.close()

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client(
                    MELODY,
                    self._run,
                    self._url,
                    self._password_file,
                    name=LABELLING,
                    patience_s=PATIENCE_S,
                )
            return self._client
