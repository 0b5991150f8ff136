"""Power cuts: the server's append-only file ends anywhere, or in rubbish."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from roomgrad.inspect.doctor import server as doctor
from roomgrad.inspect.doctor.findings import Level
from roomgrad.redis.client import Client
from roomgrad.redis.server import connect
from roomgrad.redis.server_address import parse
from roomgrad.testing import throwaway_server
from tests.integration.echo import ECHO, REPLIES
from tests.integration.power_cuts import (
    RUN,
    add_label,
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
from tests.waiting import until

MESSAGES = 24
RUBBISH = bytes(37)  # a disk did not write them: the file system shows zeros


@dataclass
class Past:
    """A server's directory after it was killed, and what its clients were told."""

    directory: Path
    labels: list[int] = field(default_factory=list)
    """How long the file was when the first, second, ... label was acknowledged as on disk."""

    @property
    def size(self) -> int:
        return growing(self.directory).stat().st_size

    def copy(self, target: Path, cut: int, end: bytes = b"") -> Path:
        """Copy it, with so many bytes of its file and another end. Return the directory."""
        shutil.copytree(
            self.directory, target, ignore=shutil.ignore_patterns("server.*", "start.*")
        )
        path = growing(target)
        path.write_bytes(path.read_bytes()[:cut] + end)
        return target


@pytest.fixture(scope="module")
def past() -> Iterator[Past]:
    """A component handles messages, and labels are stored; then the power fails."""
    with throwaway_server() as server, connect(server.url) as client:
        past = Past(server.directory)
        with component(server.url), Client(ECHO, RUN, server.url) as sender:
            for number in range(MESSAGES):
                send(sender, number)
                if number % 4 == 0:
                    add_label(sender)
                    past.labels.append(past.size)
            until(lambda: count(client, REPLIES) == MESSAGES)
        server.kill()
        yield past


@pytest.mark.parametrize("seed", range(8))
def test_a_file_that_ends_anywhere_is_a_consistent_past(
    past: Past, tmp_path: Path, seed: int
) -> None:
    """What was acknowledged as on disk is there, no commit is there by half, the run goes on."""
    cut = random.Random(seed).randrange(past.labels[0], past.size)
    with started(past.copy(tmp_path / "cut", cut)) as client:
        assert counter(client, "client", "labels") >= sum(size <= cut for size in past.labels)
        check_past(client)
        with component(url_of(client)):
            check_end(client)


def test_the_doctor_names_a_file_that_was_cut_off(past: Past, tmp_path: Path) -> None:
    """Only an embedded server of this machine: another one tells it in its own log."""
    with started(past.copy(tmp_path / "cut", past.size - 5)) as client:
        found = list(doctor.cut_off(doctor.Server.ask(client, parse(url_of(client)))))
        assert [(each.about, each.level) for each in found] == [("append-only file", Level.WARNING)]
        assert re.search(r"Truncating the AOF .*\.incr\.aof at offset \d+", found[0].found)
    with started(past.copy(tmp_path / "whole", past.size)) as client:
        assert not list(doctor.cut_off(doctor.Server.ask(client, parse(url_of(client)))))


@pytest.mark.parametrize(
    "end",
    [RUBBISH, RUBBISH + b"*3\r\n", b"*1\r\n$5\r\nMULT" + RUBBISH],
    ids=["zeros", "zeros, a command", "zeros within a command"],
)
def test_rubbish_at_the_end_of_the_file_is_cut_off_by_hand(
    past: Past, tmp_path: Path, end: bytes
) -> None:
    """The server does not start, and the error says how to mend its file; then the run goes on."""
    directory = past.copy(tmp_path / "torn", past.size, end)
    mend(directory)
    with started(directory) as client:
        assert counter(client, "client", "labels") == len(past.labels)
        assert counter(client, "echo", "received") == count(client, REPLIES) == MESSAGES
