"""`training`: batches that go through the learner one by one, and the same in one process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from roomgrad import Message
from roomgrad.codec import unpack
from roomgrad.errors import SnapshotError
from roomgrad.inspect import models
from roomgrad.models import ForwardPass
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.runtime.model import snapshotter, writer
from roomgrad.runtime.model.log import StepRecord
from roomgrad.runtime.replica import Replica
from roomgrad.snapshots import pieces, pointers
from roomgrad.snapshots.owner import Owner
from roomgrad.snapshots.pointers import Snapshot
from roomgrad.snapshots.stores import store_of
from roomgrad.testing import running
from tests.forked import Forked
from tests.integration.conftest import QUICK, EchoRun, make_echo_run
from tests.integration.echo import ECHO, GRADIENT, INPUT, REQUESTS
from tests.integration.model.learner import BATCH, LearnerSettings, Squares, Vector, component
from tests.waiting import LIMIT_S, until


def batch(number: int) -> tuple[Vector, Vector]:
    """Return the inputs of a batch, and the gradient of its outputs."""
    both = np.random.default_rng(number).standard_normal((2, BATCH)).astype("<f4")
    return both[0], both[1]


def one_process(steps: int, size: int = BATCH) -> Squares:
    """Train in this process, batch by batch, without rooms."""
    model = Squares(size)
    for number in range(steps):
        step(model, number)
    return model


def step(model: Squares, number: int, weights: Vector | None = None) -> None:
    """Take one step; the gradient is that at other weights if they are given."""
    inputs, upstream = batch(number)
    made = ForwardPass({"DATA": inputs}, 0, "")
    gradient, _ = model.backward("", made, {"DATA": upstream}, lambda: weights)
    model.apply(model.prepare(gradient, made, moved_on=False, staleness=0))


@dataclass
class Training:
    """A run of the learner, in processes, on a server."""

    echo: EchoRun
    settings: dict[str, Any] = field(default_factory=dict)
    number: int = 0

    @property
    def client(self) -> Any:
        return self.echo.client

    @property
    def names(self) -> Names:
        return self.echo.names

    @property
    def key(self) -> str:
        return self.names.model("echo")

    def spawn(self, **more: Any) -> Forked:
        """Start a replica as a process, and wait until it lives or has ended."""
        given = {"log_format": "json", **self.settings, **more}
        process = self.echo.spawn_module("tests.integration.model.learner", **given)
        beats = self.names.alive(f"*~{process.pid}~*")
        until(lambda: any(self.client.scan_iter(beats, count=1000)) or process.poll() is not None)
        return process

    def start(self, **more: Any) -> Replica:
        """Start a replica in a thread, and wait until it lives."""
        given = LearnerSettings(**{"run": self.names.run, **QUICK, **self.settings, **more})
        replica = self.echo.stack.enter_context(running(component(), given, self.echo.url))
        until(lambda: self.client.exists(self.names.alive(replica.consumer)))
        return replica

    # messages

    def open(self, number: int | None = None) -> Message:
        """Send a batch, the next one unless it is given; do not wait for its outputs."""
        if number is None:
            number, self.number = self.number, self.number + 1
        with Client(ECHO, self.names.run, self.echo.url) as client:
            message = Message.open(INPUT, batch(number)[0])
            message.entry = client.send(message)
        return message

    def answer(self, reply: Message, number: int) -> None:
        """Send the gradient of the outputs; do not wait for that of the inputs."""
        with Client(ECHO, self.names.run, self.echo.url) as client:
            client.send(reply.reply(INPUT, batch(number)[1], type=GRADIENT, id=reply.id))

    def home(self, reply: Message) -> Message:
        """Wait for the gradient of the inputs of a batch whose outputs were answered."""
        return self.echo.wait_reply(reply, after=reply.entry)

    def train(self, count: int) -> None:
        """Take some steps, one batch in flight."""
        for number in range(self.number, self.number + count):
            reply = self.echo.wait_reply(self.open())
            self.answer(reply, number)
            self.home(reply)

    # what is stored

    def step(self) -> int:
        return int(self.client.hget(self.key, "step") or 0)

    def snapshots(self) -> list[Snapshot]:
        return pointers.from_json(self.client.hget(self.key, pointers.FIELD))

    def owner(self) -> Owner:
        token = self.client.hget(self.names.run_info(), "token") or b""
        return Owner(self.names, "echo", token.decode())

    def read(self, snapshot: Snapshot) -> bytearray:
        """Return the bytes of a snapshot; they are what was written."""
        store = store_of(snapshot.place, self.client.execute_command, self.owner())
        return store.read(snapshot.place, snapshot.size, snapshot.sha256)

    def records(self) -> list[StepRecord]:
        """Return what the log holds."""
        found = self.client.xrange(self.names.steps("echo"))
        return [
            StepRecord.of([part for pair in fields.items() for part in pair]) for _, fields in found
        ]

    def content(self) -> bytes:
        """Return the state of the newest version, as a living replica stores it."""
        found = models.stored(self.client, self.names, "echo", wait_s=LIMIT_S)
        assert found.behind == 0
        return bytes(found.content)

    def versions(self) -> dict[str, str]:
        """Return the version of the weights of each open forward, by its root."""
        found = self.client.hgetall(self.names.memory("echo"))
        records = [unpack(value) for value in found.values()]
        return {each["ROOT_ID"]: each["weights"] for each in records}

    def check(self, steps: int | None = None) -> None:
        """Require that each batch has taken one step, and that every snapshot is whole."""
        self.check_counts(steps)
        for snapshot in self.snapshots():
            try:
                self.read(snapshot)
            except SnapshotError:  # a replica that lives may have dropped it meanwhile
                assert snapshot not in self.snapshots()

    def check_counts(self, steps: int | None = None) -> None:
        """Require that each batch has taken one step, and that nothing is left over."""
        steps = self.number if steps is None else steps
        counted = [self.echo.counter(name) for name in ("applied", "distinct")]
        assert [*counted, self.step()] == [steps] * 3
        assert self.echo.dead_letters() == []
        assert not self.client.exists(self.names.memory("echo"), self.names.kept("echo"))
        assert self.echo.pending(REQUESTS) == 0


def stop(process: Forked) -> str:
    """Stop a replica as an orchestrator does; return what it has logged."""
    process.send_signal(signal.SIGTERM)
    return ended(process, 0)


def ended(process: Forked, code: int) -> str:
    """Wait until a process has ended by itself; return what it has logged."""
    assert process.wait(LIMIT_S) == code, process.log()
    return process.log()


def killed(process: Forked) -> None:
    """Wait until a process has killed itself."""
    assert process.wait(LIMIT_S) == -signal.SIGKILL


@pytest.fixture(autouse=True)
def constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore what replicas in threads change."""
    for module, name in (
        *(
            (snapshotter, each)
            for each in ("LOG_BYTES", "AGAIN_S", "RETRY_S", "CHEAP_S", "LEASE_MS")
        ),
        (writer, "DURABLE_S"),
        (pieces, "PIECE_BYTES"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))


@pytest.fixture
def training(embedded_url: str) -> Iterator[Training]:
    """Yield a run with a random name on a shared server."""
    for echo in make_echo_run(embedded_url):
        yield Training(echo)


@pytest.fixture
def own_training(own_echo: EchoRun) -> Training:
    """Return a run on a server that no other test uses."""
    return Training(own_echo)
