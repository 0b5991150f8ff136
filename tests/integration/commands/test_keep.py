"""`roomgrad keep` and `roomgrad model --rollback`, with a component that learns."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from roomgrad import Component, RuntimeSettings
from roomgrad.codec import pack
from tests.integration.commands.command_line import found, refused, shown
from tests.integration.conftest import EchoRun
from tests.integration.echo import ECHO, listener
from tests.integration.model.conftest import Training, one_process
from tests.integration.model.learner import Squares, forward, learn
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)


class Stored(Squares):
    """The same model, whose state is a safetensors file as that of torch models is."""

    def dump(self) -> memoryview:
        return memoryview(save({"weight": self.weight, "optimizer.speed": self.speed}))

    def load(self, content: bytes | bytearray | memoryview) -> None:
        state = load(bytes(content))
        self.weight, self.speed = state["weight"], state["optimizer.speed"]


@pytest.fixture
def training(echo: EchoRun) -> Training:
    """Return a run in which the component `echo` learns, and `losses` is a table."""
    handlers, tables = [forward, learn], ["losses"]
    echo.start(
        Component("echo", ECHO, RuntimeSettings, handlers, model=lambda _: Stored(), tables=tables)
    )
    return Training(echo)


def train(training: Training, count: int) -> None:
    """Train to the next checkpoints, each of which has a worse loss than the one before."""
    for _ in range(count):
        number = training.number + 10
        record = pack({"step": number, "loss": float(number)})
        training.client.hset(training.names.table("losses"), str(number), record)
        training.train(10)
        until(lambda: training.number in steps(training.echo))


def steps(echo: EchoRun) -> list[int]:
    return [each["step"] for each in found(echo, "keep", "echo")["checkpoints"]]


def test_checkpoints_are_kept_and_shown(training: Training) -> None:
    echo = training.echo
    assert "No policy keeps checkpoints of echo" in shown(echo, "keep", "echo")
    set_ = found(echo, "keep", "echo", "--every", "10", "--last", "2", "--best", "losses.loss")
    policy = {"every": 10, "last": 2, "best": "losses.loss", "highest": False}
    assert set_["policy"] == policy
    train(training, 4)
    now = found(echo, "keep", "echo")
    assert now["policy"] == policy
    assert [(each["step"], each["mean"], each["best"]) for each in now["checkpoints"]] == [
        (40, 40.0, False),
        (30, 30.0, False),
        (10, 10.0, True),
    ]
    text = shown(echo, "keep", "echo")
    assert "at each multiple of 10 steps; the last 2 stay, and the best by losses.loss" in text
    assert "roomgrad model echo --rollback STEP" in text
    assert found(echo, "keep", "echo", "--off")["policy"] is None
    training.train(20)
    assert steps(echo) == [40, 30, 10]


def test_the_run_goes_back(training: Training) -> None:
    echo = training.echo
    found(echo, "keep", "echo", "--every", "10")
    train(training, 2)
    before = found(echo, "model", "echo")
    after = found(echo, "model", "echo", "--rollback", "10")
    assert after["step"] == before["step"] == 20
    assert after["version"] != before["version"]
    assert found(echo, "model", "echo") == after
    assert "continues with the checkpoint of step 20" in shown(
        echo, "model", "echo", "--rollback", "20"
    )
    assert found(echo, "model", "echo")["sha256"] == before["sha256"]
    state = load(bytes(training.content()))
    assert np.array_equal(state["weight"], one_process(20).weight)


def test_what_cannot_be_is_said(training: Training) -> None:
    echo = training.echo
    lines = {
        ("keep", "echo", "--last", "2"): "need --every N",
        ("keep", "echo", "--every", "10", "--highest"): "--highest needs --best",
        ("keep", "echo", "--every", "10", "--off"): "--off ends the policy",
        ("keep", "echo", "--every", "0"): "--every 0",
        ("keep", "echo", "--every", "10", "--best", "loss"): "expected TABLE.FIELD",
        ("keep", "echo", "--every", "10", "--best", "hits.loss"): "losses",
        ("model", "echo", "--rollback", "10"): "`roomgrad keep echo --every 100`",
        ("model", "echo", "--rollback", "10", "--export", "x"): "one at a time",
    }
    before = training.client.hgetall(training.key)
    for words, reason in lines.items():
        assert reason in refused(echo, *words)
    found(echo, "keep", "echo", "--every", "10", "--best", "losses.loss")  # it may come later
    train(training, 1)
    reason = refused(echo, "keep", "echo", "--every", "10", "--best", "losses.los")
    assert "have no number 'los', but loss, step" in reason
    assert "no checkpoint of this step, but of 10" in refused(
        echo, "model", "echo", "--rollback", "9"
    )
    assert before.keys() <= training.client.hgetall(training.key).keys()
    echo.start(listener(lambda message, context: None))
    for words in (("keep", "listener"), ("keep", "listener", "--every", "10")):
        assert "has no model" in refused(echo, *words, code=1)
    assert not training.client.exists(training.names.model("listener"))
