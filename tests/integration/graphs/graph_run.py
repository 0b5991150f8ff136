"""A run of a system that branches or joins, in threads and processes."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from roomgrad import Component, Message, Room, System
from roomgrad.inspect import models
from roomgrad.redis.client import Client
from roomgrad.runtime.replica import Replica
from roomgrad.testing import wait_for
from tests.forked import Forked
from tests.integration.conftest import EchoRun
from tests.integration.graphs.branch import GRADIENT, Vector
from tests.waiting import LIMIT_S, until

ENTER = Room("enter")


@dataclass
class GraphRun:
    """A run of a system."""

    echo: EchoRun
    system: System
    module: str
    """The program of its components."""

    def start(self, *components: Component) -> list[Replica]:
        return [self.echo.start(each) for each in components]

    def spawn(self, name: str, die_at: str = "") -> Forked:
        """Start a component as a process, which kills itself at a point."""
        module, environ = f"tests.integration.graphs.{self.module}", {"DIE_AT": die_at}
        process = self.echo.spawn_module(module, name, environ=environ)
        beats = self.echo.names.alive(f"{name.split()[-1]}~*~{process.pid}~*")
        until(lambda: any(self.echo.client.scan_iter(beats)) or process.poll() is not None)
        return process

    def send(self, message: Message, sent_by: str = "") -> Message:
        message.sent_by = sent_by
        with Client(self.system, self.echo.names.run, self.echo.url) as client:
            message.entry = client.send(message)
        return message

    def open(self, data: Vector, **options: Any) -> Message:
        return self.send(Message.open(ENTER, data, **options))

    def wait(self, room: Room, type_: str, root: Message, **options: Any) -> Message:
        """Wait for a message of a root."""
        limit = {"timeout_s": LIMIT_S, "root_id": root.root_id, **options}
        stream = self.system.stream(room, type_)
        return wait_for(self.echo.client, self.echo.names, stream, **limit)

    def home(self, root: Message) -> Message:
        """Wait for the gradient of a root."""
        return self.wait(ENTER, GRADIENT, root)

    def content(self, component: str) -> bytes:
        """Return the state of a component's model."""
        found = models.stored(self.echo.client, self.echo.names, component, wait_s=LIMIT_S)
        assert found.behind == 0
        return bytes(found.content)

    def memory(self, component: str) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = self.echo.client.hgetall(self.echo.names.memory(component))
        return found

    def length(self, room: Room | str, type_: str) -> int:
        """Return how many messages a stream has."""
        return int(self.echo.client.xlen(self.echo.names.stream(str(room), type_)))

    def left_over(self) -> dict[str, int]:
        """Return what is still in memory, or still to be delivered, by component."""
        names, client = self.echo.names, self.echo.client
        found = {
            each: client.hlen(names.memory(each)) + client.zcard(names.later(each))
            for each in self.system.components
        }
        return {name: count for name, count in found.items() if count}


def kill(process: Forked) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT_S)


def killed(process: Forked) -> None:
    """Wait until a process has killed itself."""
    assert process.wait(LIMIT_S) == -signal.SIGKILL
