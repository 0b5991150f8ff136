"""The training through rooms: this process opens batches and answers outputs with gradients."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Message, MessageType, Room, RuntimeSettings
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.runtime.model import log
from roomgrad.testing import wait_for
from tests.forked import FORK_SERVER
from tests.systems.models import replicas
from tests.systems.models.reference import Result, difference
from tests.systems.models.replicas import EVERY
from tests.systems.models.zoo import ENTER, FORWARD, GRADIENT, LEAVE, RUN_SEED, TRAINER, Arrays
from tests.waiting import LIMIT_S, until

QUICK = {
    "heartbeat_interval_s": 0.1,
    "heartbeat_lives_s": 0.5,
    "lease_s": 0.3,
    "block_s": 0.1,
    "max_deliveries": 3,
}


class Rooms:
    """A run of a case on a server, in the role of its trainer."""

    def __init__(self, name: str, url: str, records: str = log.GRADIENT) -> None:
        self.name, self.case = name, EVERY[name]
        self._records = records
        self.names = Names(f"test-{secrets.token_hex(6)}")
        self.layout: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray  # of what is sent
        self.settings = RuntimeSettings(run=self.names.run, seed=RUN_SEED, **QUICK)
        self._url = url
        self._stack = contextlib.ExitStack()
        system = self.case.contract()
        self.client = self._stack.enter_context(Client(system, self.names.run, url, name=TRAINER))
        self._spare = self._prepare()

    def close(self) -> None:
        """End the processes."""
        self._stack.close()

    # replicas

    def start(self) -> ForkServerProcess:
        """Start a replica, and prepare the next one meanwhile."""
        process, go = self._spare
        go.send(None)
        go.close()
        self._spare = self._prepare()
        return process

    def start_all(self, count: int) -> None:
        """Start several replicas, and wait until they live."""
        for _ in range(count):
            self.start()
        pattern = self.names.alive("*")
        until(lambda: len(list(self.client.redis.scan_iter(pattern, count=1000))) == count)

    def _prepare(self) -> tuple[ForkServerProcess, Connection]:
        waits, go = FORK_SERVER.Pipe(duplex=False)
        starting = replicas.start(
            self.name, replicas.serve, self.settings, self._url, self._records, waits
        )
        process = self._stack.enter_context(starting)
        waits.close()
        return process, go

    # training

    def train(self, steps: int) -> Result:
        """Train with the replicas that live."""
        result = Result()
        for number in range(steps):
            if number == steps // 2:
                result.answers.append(self.validate())
            result.gradients.append(self.finish(self.open(number), number))
        return self.finished(result)

    def train_with_kills(self, steps: int) -> Result:
        """Train with one replica, killed between each forward pass and its gradient."""
        result = Result()
        replica = self.start()
        for number in range(steps):
            if number == steps // 2:
                result.answers.append(self.validate())
            outputs = self.open(number)
            replicas.kill(replica)
            replica = self.start()
            result.gradients.append(self.finish(outputs, number))
        return self.finished(result)

    def finished(self, result: Result) -> Result:
        """Add the last answer, and the state that is stored."""
        result.answers.append(self.validate())
        state = replicas.ask(self.name, replicas.stored, self.names, self._url)
        result.weights, result.optimizer = state.weights, state.optimizer
        return result

    def open(self, number: int) -> Message:
        """Send a batch; return the outputs."""
        sent = self.send(number, self.case.batch(number))
        return self.wait(LEAVE, FORWARD, sent.root_id)

    def send(self, number: int, batch: Arrays) -> Message:
        """Send the inputs of a batch."""
        fields = self._laid_out(batch)
        message = Message.open(ENTER, fields.pop("DATA", None), seed=number, **fields)
        self.client.send(message)
        return message

    def finish(self, outputs: Message, number: int) -> Arrays:
        """Send the gradient of the outputs; return that of the inputs."""
        self.answer(outputs, self.case.upstream(number, outputs.arrays()))
        return self.wait(ENTER, GRADIENT, outputs.root_id).arrays()

    def answer(self, outputs: Message, upstream: Arrays) -> None:
        """Send gradients of the outputs."""
        fields = self._laid_out(upstream)
        data = fields.pop("DATA", None)
        self.client.send(outputs.reply(LEAVE, data, type=GRADIENT, id=outputs.id, **fields))

    def _laid_out(self, arrays: Arrays) -> Arrays:
        return {name: self.layout(array) for name, array in arrays.items()}

    def wait(self, room: Room, type_: MessageType, root_id: str) -> Message:
        stream = self.case.contract().stream(room, type_)
        client, names = self.client.redis, self.names
        return wait_for(client, names, stream, root_id=root_id, timeout_s=LIMIT_S)

    def validate(self) -> Arrays:
        """Ask the model twice; return its answer, always the same."""
        first, second = self.ask(), self.ask()
        assert not difference(first, second)
        return first

    def ask(self) -> Arrays:
        fields = self.case.question()
        data, answer = fields.pop("DATA", None), (LEAVE, FORWARD)
        client = self.client
        found = client.ask(ENTER, FORWARD, data, answer=answer, timeout_s=LIMIT_S, fields=fields)
        return found.arrays()
