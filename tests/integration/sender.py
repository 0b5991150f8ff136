"""A thread that sends messages while servers come and go."""

from __future__ import annotations

import contextlib
import itertools
import threading

from roomgrad import Message
from roomgrad.redis.client import Client
from tests.integration.conftest import EchoRun
from tests.integration.echo import ECHO, INPUT, numbers
from tests.waiting import until


class Sender:
    """Sends one message after the other; `told` are those of which it was told that they stand.

    forgives: errors after which it goes on with the next message.
    """

    def __init__(
        self, echo: EchoRun, *, patience_s: float = 10.0, forgives: tuple[type[Exception], ...] = ()
    ) -> None:
        self._cage = echo
        self._patience_s = patience_s
        self._forgives = forgives
        self._stop = threading.Event()
        self.told: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()

    def wait(self, count: int) -> None:
        """Wait until this number of messages more is stored."""
        before = len(self.told)
        until(lambda: len(self.told) >= before + count)

    def _run(self) -> None:
        run, url = self._cage.names.run, self._cage.url
        with Client(ECHO, run, url, patience_s=self._patience_s) as client:
            for number in itertools.count():
                message = Message.open(INPUT, numbers(number))
                with contextlib.suppress(*self._forgives):
                    client.send(message)
                    self.told.append(message.root_id)
                if self._stop.wait(0.002):
                    return
