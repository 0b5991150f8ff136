"""`roomgrad serve` in processes of its own: replicas that are killed, refusals, and as a call."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from roomgrad.redis import heartbeats
from roomgrad.torch import Through
from tests.integration.conftest import EchoRun
from tests.roomgrad_command import PYTHONPATH, roomgrad
from tests.waiting import LIMIT_S, until

AIM = """
from torch import nn

net = nn.Linear(2, 2)
wrong = 3


def later(rows):
    return missing
"""

QUICK = ("--heartbeat-interval-s=0.1", "--heartbeat-lives-s=0.5", "--lease-s=0.3")
BETWEEN = ("--enter=a", "--leave=b", "--like=[[3, 60]]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "aim.py").write_text(AIM)
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    return tmp_path


@contextlib.contextmanager
def serving(echo: EchoRun, folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of the run in a folder; it ends by SIGTERM with exit code 0 or 130."""
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, "REDIS_URL": echo.url}
    environ |= {"ROOMGRAD_STATE": str(folder), "ROOMGRAD_RUN": echo.names.run}
    with subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environ, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode in (0, 130), errors.decode()


def replicas(echo: EchoRun, component: str) -> list[int]:
    found = heartbeats.find(echo.client, echo.names)
    return [each.pid for each in found if each.component == component]


def module(echo: EchoRun) -> Through:
    return Through(
        echo.names.run, "a", "b", run=echo.names.run, redis_url=echo.url, timeout_s=LIMIT_S
    )


def test_replicas_are_killed_and_each_gradient_counts_once(echo: EchoRun, folder: Path) -> None:
    """The launcher starts a killed replica again; the model has taken one step for each batch."""
    command = ("-m", "roomgrad", "serve", "aim.py:net", *BETWEEN, "--replicas=2", *QUICK)
    with serving(echo, folder, *command):
        pids = until(lambda: len(found := replicas(echo, "net")) == 2 and found)
        through = module(echo)
        for number in range(30):
            if number == 10:
                os.kill(pids[0], signal.SIGKILL)
            through(torch.randn(4, 2)).square().sum().backward()
        until(lambda: len({*replicas(echo, "net")} - {pids[0]}) == 2)
        through.close()
    assert echo.client.hget(echo.names.model("net"), "step") == b"30"
    assert not echo.client.hlen(echo.names.memory("net"))
    assert not echo.dead_letters()


def test_the_first_answer_takes_as_long_as_torch(echo: EchoRun, folder: Path) -> None:
    """At most three times the work of importing torch, which is 4 s on a machine with 1.3 s."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    after = os.times()
    torch_s = after.children_user + after.children_system
    torch_s -= before.children_user + before.children_system
    with serving(echo, folder, "-m", "roomgrad", "serve", "aim.py:net", *BETWEEN) as process:
        until(lambda: replicas(echo, "net"))
        through = module(echo)
        with torch.no_grad():
            through(torch.ones(4, 2))
        spent = psutil.Process(process.pid).cpu_times()
        through.close()
    assert spent.user + spent.system < 3 * torch_s


def test_a_call_serves_an_object_of_a_program(echo: EchoRun, folder: Path) -> None:
    (folder / "program.py").write_text(
        "import roomgrad\n"
        "from aim import net\n"
        "if __name__ == '__main__':\n"
        "    roomgrad.serve(net, enter='a', leave='b', name='mine', like=[[3, 60]])\n"
    )
    with serving(echo, folder, "program.py"):
        until(lambda: replicas(echo, "mine"))
        through = module(echo)
        assert through(torch.ones(4, 2)).shape == (4, 2)
        through.close()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("aim.py", *BETWEEN), "aim.py: expected FILE:OBJECT, like aim.py:net"),
        (("gone.py:net", *BETWEEN), "there is no file "),
        (("aim.py:nat", *BETWEEN), "aim.py has no 'nat', did you mean net?"),
        (("broken.py:net", *BETWEEN), "broken.py, line 2: ZeroDivisionError: division by zero"),
        (("aim.py:wrong", *BETWEEN), "wrong is 3, a int: expected an nn.Module"),
        (("aim.py:later", *BETWEEN), "name 'missing' is not defined"),
        (("aim.py:net", *BETWEEN[:2], "--like=[[3]"), "--like [[3]: expected rows as JSON"),
        (("aim.py:net", *BETWEEN[:2], "--like=x.npy"), "--like x.npy: it cannot be read"),
        (("aim.py:net", *BETWEEN, "--optimiser=adam"), "unknown flag '--optimiser'"),
        (("--command=./solver", *BETWEEN), "--command ./solver: there is no program './solver'"),
        (("--command=cat", "aim.py:net", *BETWEEN), "serve what? Name one object as FILE:OBJECT"),
    ],
)
def test_one_sentence_says_what_is_wrong(
    embedded_url: str, folder: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = roomgrad("serve", *words, environ={"REDIS_URL": embedded_url}, cwd=folder)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
