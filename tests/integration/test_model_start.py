"""A component whose model cannot be made or loaded ends with a sentence, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from roomgrad import Component, RuntimeSettings
from roomgrad.errors import ModelError
from roomgrad.testing import running
from tests.integration.conftest import QUICK, ROOT, EchoRun
from tests.integration.echo import ECHO
from tests.integration.test_model import Scale, forward, gradient, replace_weight, scale, weight
from tests.waiting import until

PROGRAM = """
import sys
from torch import nn, optim
from roomgrad import Component, RuntimeSettings, main
from roomgrad.learning import TorchModel
from tests.integration.echo import ECHO
from tests.integration.test_model import forward, gradient

def model(settings):
    size = {"first": 1, "other": 2, "typing error": "1", "LBFGS": 1}[kind]
    make = optim.LBFGS if kind == "LBFGS" else optim.SGD
    return TorchModel(nn.Linear(1, size), lambda parameters: make(parameters, lr=0.1))

kind = sys.argv.pop(1)
main(Component("echo", ECHO, RuntimeSettings, [forward, gradient], model=model))
"""


def program(echo: EchoRun, kind: str) -> subprocess.Popen[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in QUICK.items()]
    where = [f"--run={echo.names.run}", f"--redis-url={echo.url}"]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, *where, *flags],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT)])},
        stderr=subprocess.PIPE,
        text=True,
    )
    echo.stack.callback(process.communicate)
    echo.stack.callback(process.kill)
    return process


def last_line(process: subprocess.Popen[str]) -> str:
    """Return what a process that failed at its start has printed last."""
    _, text = process.communicate(timeout=120)
    assert process.returncode == 1, text
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("LBFGS", "echo: LBFGS computes the loss several times in a step"),
        ("typing error", "echo: its model cannot be made: TypeError: "),
    ],
)
def test_a_model_that_cannot_be_made_ends_its_component(
    echo: EchoRun, kind: str, text: str
) -> None:
    """At the start, in place of a stack trace for each message."""
    assert last_line(program(echo, kind)).startswith(text)


def test_a_model_of_another_network_is_left_alone(echo: EchoRun) -> None:
    """The sentence names the parameter; messages wait for the component that has the right one."""
    first = program(echo, "first")
    key = echo.names.model("echo")
    stored = until(lambda: echo.client.hgetall(key))
    first.terminate()
    assert first.wait(60) == 0
    message = echo.send(1)
    assert (
        "weight is F32 (1, 1) there, and F32 (2, 1) here; start this network in another run"
        in last_line(program(echo, "other"))
    )
    assert echo.client.hgetall(key) == stored
    assert echo.dead_letters() == []
    assert echo.client.xlen(echo.names.stream(message.room, message.type)) == 1


class Picky(Scale):
    """A model that is no longer its own after a step."""

    def load(self, content: bytes | bytearray | memoryview) -> None:
        super().load(content)
        if self.weight != 1.0:
            raise ModelError("the stored model is of another network than this one")


def test_a_model_that_is_replaced_by_another_ends_its_component(echo: EchoRun) -> None:
    """While it runs: the message stays for a replica that has the right one."""
    messages = []

    def replace_it() -> None:
        picky = Component("echo", ECHO, RuntimeSettings, [forward, gradient], model=Picky)
        with running(picky, echo.make_settings(), echo.url):
            until(lambda: echo.client.keys(echo.names.alive("*")))
            replace_weight(echo, 2.0)
            messages.append(echo.send(3))
            until(lambda: not echo.client.keys(echo.names.alive("*")))

    with pytest.raises(ModelError, match="of another network"):
        replace_it()
    assert echo.dead_letters() == []
    assert weight(echo) == 2.0
    echo.start(scale())
    assert echo.wait_reply(messages[0]).array.tolist() == [6.0]
