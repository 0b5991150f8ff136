"""A run of the system `zoo` on a shared server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad import Message, ModelStatus, Room
from roomgrad.inspect import models
from roomgrad.redis import heartbeats
from roomgrad.redis.client import Client
from roomgrad.testing import running
from tests.forked import Forked
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.ensembles.zoo import ACT, MODELS, ZOO, teacher
from tests.integration.model.learner import BATCH
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]


class Zoo:
    """A run of the system `zoo`, whose members are processes."""

    def __init__(self, run: EchoRun) -> None:
        self.run, self.client, self.names = run, run.client, run.names

    def spawn(self, *words: str, environ: Mapping[str, str | None] | None = None) -> Forked:
        """Start a process of members."""
        return self.run.spawn_module("tests.integration.ensembles.zoo", *words, environ=environ)

    def start(self, *words: str) -> Forked:
        """Start a process of members, and wait until each of them lives."""
        process = self.spawn(*words)
        chosen = [word.removeprefix("--member=") for word in words if "--member" in word]
        wanted = {f"model.{each}" for each in (chosen[0].split(",") if chosen else range(3))}
        until(lambda: wanted <= self.served_by(process.pid))
        return process

    def served_by(self, pid: int) -> set[str]:
        """Return the components of which a process runs a replica."""
        found = heartbeats.find(self.client, self.names)
        return {each.component for each in found if each.pid == pid}

    def keep(self) -> None:
        """Start the teacher."""
        self.run.stack.enter_context(running(teacher(), self.run.make_settings(), self.run.url))
        until(lambda: heartbeats.find(self.client, self.names, "teacher"))

    def ask(self, room: Room, count: int = 1, status: ModelStatus = ModelStatus.TRAIN) -> str:
        """Send batches into a room; return the last root."""
        with Client(ZOO, self.names.run, self.run.url) as client:
            for number in range(count):
                numbers = np.full(BATCH, number + 1, "<f4")
                message = Message.open(room, numbers, status=status, seed=number)
                client.send(message)
        return message.root_id

    def home(self, member: str) -> int:
        """Return how many batches came home from a member that was asked alone."""
        room = MODELS.room(ACT, member).name
        return int(self.client.hget(self.names.counters("teacher"), room) or 0)

    def learned(self) -> dict[str, int]:
        """Return how many roots each member has learned from."""
        return {name: self.client.zcard(self.names.ledger(name)) for name in MODELS.names}

    def sha256(self, member: str) -> str:
        return models.sha256(self.client, self.names, member)

    def group(self, room: Room, type_: str, name: str) -> dict[str, Any]:
        """Return what the server tells of a group."""
        found = self.client.xinfo_groups(self.names.stream(room.name, type_))
        return next(each for each in found if each["name"] == name.encode())

    def dead(self) -> int:
        return int(self.client.xlen(self.names.dead()))


@pytest.fixture
def zoo(embedded_url: str) -> Iterator[Zoo]:
    for run in make_echo_run(embedded_url):
        yield Zoo(run)
