"""Power cuts after which the disk has what fsync made durable, or less, or pages in any order."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest
import redis

from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.testing import throwaway_server
from tests.integration.conftest import ROOT, OwnServer
from tests.integration.disks import Disk
from tests.integration.echo import ECHO, REPLIES, REQUESTS
from tests.integration.power_cuts import (
    RUN,
    check_end,
    check_past,
    component,
    count,
    counter,
    growing,
    mend,
    send,
    started,
    url_of,
)
from tests.roomgrad_command import PYTHONPATH
from tests.waiting import until

LABELS = 3
EACH = 8  # messages before each label
LAST = 300  # messages that come in the last moment
ENOUGH = LABELS * EACH + LAST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: apt install gcc"),
]


@dataclass
class Run:
    """A run on a server whose disk takes part in power cuts."""

    server: OwnServer
    disk: Disk
    sender: Client
    client: redis.Redis
    labels: subprocess.Popen[str]

    def add_label(self) -> None:
        """Have another process store a label; return when it is acknowledged."""
        assert self.labels.stdin is not None
        assert self.labels.stdout is not None
        self.labels.stdin.write("\n")
        self.labels.stdin.flush()
        assert self.labels.stdout.readline() == "stored\n"

    def work(self) -> None:
        """Send messages, and have a label acknowledged after some of them each."""
        for _ in range(LABELS):
            sent = count(self.client, REQUESTS)
            send(self.sender, *range(sent, sent + EACH))
            self.add_label()

    def cut_power(self, *last: int) -> None:
        """Send messages, and let the power fail while they are handled."""
        send(self.sender, *last)
        self.server.kill()
        self.disk.cut_power(self.server.process.directory)

    def go_on(self) -> None:
        """Start the server, send again what it has lost, and require each effect once."""
        self.server.restart()
        until(lambda: answers(self.client))
        check_past(self.client)
        send(self.sender, *range(count(self.client, REQUESTS), ENOUGH))
        check_end(self.client)
        assert count(self.client, REQUESTS) == ENOUGH


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Yield a run of a component, which lives on through the power cut of its server."""
    disk = Disk.build(tmp_path)
    with contextlib.ExitStack() as stack:
        with monkeypatch.context() as environ:
            for name, value in disk.environ.items():
                environ.setenv(name, value)
            server = stack.enter_context(throwaway_server())
            labels = stack.enter_context(label_process(server.url))
        client = stack.enter_context(connect(server.url))
        sender = stack.enter_context(Client(ECHO, RUN, server.url))
        stack.enter_context(component(server.url))
        own = OwnServer(server)
        yield Run(own, disk, sender, client, labels)
        own.kill()


@contextlib.contextmanager
def label_process(url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.integration.labels", url]
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("last", [1, 20, LAST])
def test_an_acknowledged_label_survives_a_power_cut(run: Run, last: int) -> None:
    """What the replica has seen beyond that, the server has lost: it is done again, once."""
    run.work()
    run.cut_power(*range(LABELS * EACH, LABELS * EACH + last))
    run.go_on()
    assert counter(run.client, "client", "labels") == LABELS


def test_a_rewritten_file_has_the_labels_too(run: Run) -> None:
    """The server writes its data anew, into files of other names, and goes on with those."""
    before = growing(run.server.process.directory)
    run.work()
    run.client.bgrewriteaof()
    until(lambda: not before.exists())
    run.work()
    run.cut_power(*range(2 * LABELS * EACH, 2 * LABELS * EACH + 20))
    run.go_on()
    assert counter(run.client, "client", "labels") == 2 * LABELS


def test_a_disk_that_lies_takes_back_whole_commits(run: Run) -> None:
    """Labels are lost that it said it has: nothing else could be known. The run goes on."""
    run.work()
    run.disk.lie()
    run.work()
    assert counter(run.client, "client", "labels") == 2 * LABELS
    until(lambda: count(run.client, REPLIES) == 2 * LABELS * EACH)
    run.cut_power()
    run.go_on()
    assert counter(run.client, "client", "labels") == LABELS


@pytest.mark.parametrize("seed", range(6))
def test_pages_that_were_written_in_any_order_are_cut_off(
    run: Run, tmp_path: Path, seed: int
) -> None:
    """The server refuses the file, the error says how to mend it, and no label is lost."""
    run.work()
    run.disk.lie()  # so that much is not durable
    send(run.sender, *range(LABELS * EACH, ENOUGH))
    until(lambda: count(run.client, REPLIES) == ENOUGH)
    run.server.kill()
    directory = run.disk.torn(run.server.process.directory, tmp_path / "torn", seed)
    mend(directory)
    with started(directory) as client:
        assert counter(client, "client", "labels") == LABELS
        check_past(client)
        with component(url_of(client)):
            check_end(client)
