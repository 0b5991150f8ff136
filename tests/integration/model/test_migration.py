"""A run that an older release wrote goes on; that release then refuses to step beside this one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from roomgrad import Component, Message, RuntimeSettings, weights
from roomgrad.codec import pack
from roomgrad.commit import Commit
from roomgrad.inspect import models
from roomgrad.learning import TorchModel
from roomgrad.testing import running, wait_for
from tests.integration.conftest import QUICK, EchoRun
from tests.integration.echo import ECHO, GRADIENTS, REPLIES
from tests.integration.model.conftest import Training, batch
from tests.integration.model.learner import forward, learn
from tests.waiting import LIMIT_S, until

SCRIPT = Path(__file__).parents[2] / "data" / "commit-with-weights.lua"
RATE = 0.01


def network() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Linear(4, 4)


class OneProcess:
    """The same network in one process; it writes its state as the older release did."""

    def __init__(self) -> None:
        self.network = network()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=RATE)

    def files(self) -> tuple[bytes, bytes]:
        """Return weights and optimizer state."""
        state = {
            f"{name}.{key}": value.clone()
            for name, parameter in self.network.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        return save({n: p.detach().clone() for n, p in self.network.named_parameters()}), save(
            state
        )

    def gradients(self, number: int) -> tuple[list[Tensor], NDArray[np.float32]]:
        """Return those of the parameters and of the inputs, at the weights of now."""
        inputs, upstream = map(torch.from_numpy, batch(number))
        leaf = inputs.clone().requires_grad_()
        sought = [leaf, *self.network.parameters()]
        of_inputs, *found = torch.autograd.grad(self.network(leaf), sought, upstream)
        return found, of_inputs.numpy()

    def step(self, gradients: list[Tensor], staleness: int = 0) -> None:
        for parameter, gradient in zip(self.network.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        self.optimizer.param_groups[0]["lr"] = RATE / math.sqrt(1 + staleness)
        self.optimizer.step()


def torch_component() -> Component:
    def model(_: Any) -> TorchModel:
        return TorchModel(network(), lambda given: torch.optim.Adam(given, lr=RATE))

    return Component("echo", ECHO, RuntimeSettings, [forward, learn], model=model)


class OldRun:
    """A run after three steps of the older release, with two open roots: of now, and of before."""

    def __init__(self, training: Training) -> None:
        self.echo = echo = training.echo
        self.model = OneProcess()
        self.versions = [f"{step}-{'a' * 12}" for step in range(4)]
        for number in range(3):
            if number == 2:
                self.before = self.model.files()[0]
                self.late = self.model.gradients(10)
            self.model.step(self.model.gradients(number)[0])
        stored, optimizer = self.model.files()
        echo.client.hset(
            echo.names.model("echo"),
            mapping={"version": self.versions[3], "step": 3, "weights": stored,
                     "optimizer": optimizer},
        )  # fmt: skip
        kept = echo.names.kept("echo")
        echo.client.hset(kept, self.versions[2], self.before)
        for version in self.versions[2:]:
            echo.client.hset(kept, f"{version}:open", 1)
        echo.client.hset(echo.names.counters("echo"), mapping={"applied": 3, "distinct": 3})
        self._remember("now", 11, self.versions[3])
        self._remember("late", 10, self.versions[2])

    def _remember(self, name: str, number: int, version: str) -> None:
        record = {"ROOT_ID": f"root-{name}", "answers": f"asked-{name}", "data": batch(number)[0]}
        self.echo.client.hset(
            self.echo.names.memory("echo"), name, pack({**record, "weights": version})
        )

    def answer(self, name: str, number: int) -> Message:
        """Send the gradient of an open root; return what comes home."""
        root = f"root-{name}"
        data = [float(x) for x in batch(number)[1]]
        body = {"ID": name, "ROOT_ID": root, "TYPE": "DATA/GRADIENT", "DATA": data}
        self.echo.add({"ID": name, "ROOT_ID": root, "m": orjson.dumps(body)}, GRADIENTS)
        return wait_for(self.echo.client, self.echo.names, REPLIES, root_id=root, timeout_s=LIMIT_S)


def start(echo: EchoRun) -> None:
    settings = RuntimeSettings(run=echo.names.run, **QUICK)  # type: ignore[arg-type]
    echo.stack.enter_context(running(torch_component(), settings, echo.url))
    until(lambda: echo.client.hget(echo.names.model("echo"), "snapshots"))


def test_it_goes_on_with_the_same_bits(training: Training) -> None:
    """Roots that were open then get the gradients of the weights that made them."""
    old, echo = OldRun(training), training.echo
    reference = old.model
    start(echo)
    key = echo.names.model("echo")
    assert not echo.client.hexists(key, "weights")
    assert not echo.client.hexists(key, "optimizer")
    now = reference.gradients(11)
    assert old.answer("now", 11).array.tolist() == now[1].tolist()
    reference.step(now[0])
    assert old.answer("late", 10).array.tolist() == old.late[1].tolist()
    reference.step(old.late[0], staleness=2)
    training.number = 20
    for number in range(20, 25):
        reference.step(reference.gradients(number)[0])
    training.train(5)
    training.check_counts(10)
    found = models.stored(echo.client, echo.names, "echo", wait_s=LIMIT_S)
    expected = weights.read(reference.files()[0])
    assert [each.data for each in found.weights()] == [each.data for each in expected]


def test_the_older_release_refuses_to_step_beside_it(training: Training) -> None:
    """Its script finds a version without weights; nothing is written, and its message waits."""
    old, echo = OldRun(training), training.echo
    key, kept = echo.names.model("echo"), echo.names.kept("echo")
    script = echo.client.register_script(SCRIPT.read_text())

    def step(version: str) -> Any:
        commit = Commit()
        commit.operations.append(
            [b"STEP", commit._key(key), commit._key(kept), b"4-bbb", b"4", b"weights", b"optimizer"]
        )
        commit.same(key, b"version", version.encode())
        keys, arguments = commit.parts()
        return script(keys=keys, args=arguments)

    before = echo.client.dump(key)
    assert step(old.versions[3]) == [b"ok"]  # it does step a run that is its own
    echo.client.restore(key, 0, before or b"", replace=True)
    start(echo)
    stored = echo.client.hgetall(key)
    outcome, reason = step(old.versions[3])
    assert outcome == b"refused"
    assert reason == f"key {key} has a version and no weights".encode()
    assert echo.client.hgetall(key) == stored
