"""Replicas whose every command waits until a scheduler has the server execute it.

Each replica is the real one: its loop, its connections, its snapshots. Its code runs in greenlets,
which pause where a reply is not there yet. What a connection has sent waits in a `Wire`; `World`
executes the commands one by one, in any order of the wires, on one connection to a real server.
So a replica is always about to send, waiting for the server, or waiting for the reply, and may die
or lose its connection at each of these points.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from greenlet import getcurrent, greenlet

from roomgrad import Component, RuntimeSettings
from roomgrad.names import Names
from roomgrad.redis.connection import Command, Connection, Reply
from roomgrad.runtime.consumers import GroupConsumer
from roomgrad.runtime.gone_guests import GoneGuests
from roomgrad.runtime.heartbeat_sender import HeartbeatSender
from roomgrad.runtime.replica import Replica
from roomgrad.runtime.shutdown import ShutdownEvent
from tests.schedules.wires import (
    CLIENT,
    URL,
    Died,
    SteppedConnection,
    Transaction,
    Wire,
    name_of,
    summary,
    without_block,
)

RUN = "schedule"
NAMES = Names(RUN)
BEGIN_S = 1000.0  # by the clock of a schedule
WRITES = (b"EVALSHA", b"EVAL", b"XADD")  # that a blocked read may wait for


class NoHousekeeping:
    """In place of the thread beside the loop."""

    def start(self) -> None:
        """Do nothing: the scheduler sends heartbeats."""


NO_HOUSEKEEPING: Any = NoHousekeeping()


class SteppedReplica(Replica):
    """A replica without its housekeeping thread: the scheduler sends its heartbeats."""

    def __init__(
        self, world: World, component: Component, settings: RuntimeSettings, name: str
    ) -> None:
        self.world, self.name, self.dead = world, name, False
        self.quick = False  # whether its first connection may skip what is done already
        self.tasks: list[greenlet] = []
        super().__init__(component, settings, URL)
        self._client = CLIENT.over(self._open("start"))
        consumer = self._loop.consumer
        assert isinstance(consumer, GroupConsumer)
        self._beat = HeartbeatSender(self.identity, self.status, consumer, self._scheduler)
        self._loop._receiver.read_count._seconds *= world.pace

    def _open(self, purpose: str) -> Connection:
        connection = SteppedConnection(self.world, self, purpose)
        self._opened.append(connection)
        return connection

    def _connect(self) -> None:
        self._client.connection_of_replica.connect()
        self._connections.connect()
        tokens, name = self.world.tokens, self.identity.component.name
        setup = self._loop._setup
        if self.quick and name in tokens:  # another replica has done what this one would find done
            self.quick = False
            with mock.patch.object(setup, "prepare", self._known_token):
                self._loop.prepare(self._client)
        else:
            self._loop.prepare(self._client)
            tokens[name] = self.status.token

    def _known_token(self, client: object) -> str:
        return self.world.tokens[self.identity.component.name]

    def start(self) -> None:
        """Run until the first reply is waited for."""
        self.spawn(lambda: self._serve(NO_HOUSEKEEPING))

    def spawn(self, function: Callable[[], Any]) -> greenlet:
        """Run a function in a greenlet of this replica, as a thread of its process."""

        def run() -> None:
            try:
                function()
            except Died:
                pass
            except Exception as error:
                self.world.errors.append(f"{self.name} ended: {type(error).__name__}: {error}")

        task = greenlet(run, self.world.scheduler)
        self.tasks.append(task)
        self.world.waiting.append(task)
        return task

    def kill(self) -> None:
        """End all greenlets without another effect on the server."""
        self.dead = True
        for task in self.tasks:
            if not task.dead:
                task.throw(Died)

    def cut(self) -> None:
        """Lose all connections."""
        for reader in [connection.cut() for connection in self._opened]:
            if reader is not None:
                reader.switch()

    def heartbeat(self) -> None:
        """Send a heartbeat; every other replica seems to be dead. Give up what guests left open."""
        self.world.server.call([b"DEL", *self.world.alive])
        self._beat.send(self.world.server, settled=True)
        GoneGuests(self.identity).give_up(self.world.server)  # reads find that when they time out

    @property
    def model(self) -> Any:
        """The model as this replica holds it."""
        store = self._loop._store
        return store and store.follower.trainable

    def catch_up(self) -> None:
        """Let a heartbeat's findings and the time that has passed be noticed."""
        for wire in self.world.wires:
            wire.timed_out |= wire.owner is self and wire.blocked


class SteppedThread:
    """`threading.Thread` of a snapshot: a greenlet of the replica that starts it."""

    def __init__(self, target: Callable[..., Any], name: str, args: tuple[Any, ...]) -> None:
        self._owner = next(r for r in World.now.living if getcurrent() in r.tasks)
        self._run = lambda: target(*args)
        self._task: greenlet | None = None

    def start(self) -> None:
        self._task = self._owner.spawn(self._run)

    def is_alive(self) -> bool:
        return self._task is not None and not self._task.dead

    def join(self) -> None:
        while self.is_alive():
            World.now.waiting.append(getcurrent())
            World.now.pause()
            if self._owner.dead:
                raise Died


class NoWait(ShutdownEvent):
    """A request to stop that lets time pass at once."""

    def wait(self, seconds: float) -> bool:
        World.now.clock_s += seconds
        return self.is_set()


class World:
    """One server, and the replicas that live."""

    now: World

    def __init__(self, server: Connection, seed: int, pace: float) -> None:
        self.server = server
        self.pace = pace  # how long a message seems to take; below 1 several are read at once
        self.random = random.Random(seed)
        self.ids = random.Random(seed + 1)
        self.scheduler = getcurrent()
        self.wires: list[Wire] = []
        self.living: list[SteppedReplica] = []
        self.alive: list[bytes] = []  # keys of the heartbeats of all replicas that ever lived
        self.waiting: list[greenlet] = []  # to begin, or to see whether another has ended
        self.errors: list[str] = []
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.executed: Callable[[Command | Transaction, Reply], None] = lambda *_: None
        self.clock_s = BEGIN_S
        self.tokens: dict[str, str] = {}  # of the run, by the components that are registered
        self._names = itertools.count(1)
        World.now = self

    def note(self, text: str) -> None:
        self.trace.append(text)

    def add(
        self, component: Component, settings: RuntimeSettings, *, quick: bool
    ) -> SteppedReplica:
        """Start a replica with a new identity."""
        found = SteppedReplica(self, component, settings, f"{component.name}{next(self._names)}")
        found.quick = quick
        self.living.append(found)
        self.alive.append(NAMES.alive(found.consumer).encode())
        self.note(f"{found.name} starts")
        found.start()
        self._go_on()
        return found

    def open(self, owner: SteppedReplica, purpose: str) -> Wire:
        wire = Wire(owner, purpose)
        self.wires.append(wire)
        return wire

    def pause(self) -> None:
        """Go on in the scheduler, until it switches back."""
        self.scheduler.switch()

    def ready(self) -> list[Wire]:
        """Return the wires of which the server can execute a command."""
        self.wires = [w for w in self.wires if w.queue or not w.owner.dead]
        return [w for w in self.wires if w.queue and (w.timed_out or not w.blocked)]

    def ask(self, *commands: Command) -> list[Any]:
        """Return the replies of the server to commands of the test."""
        self.server.send(*commands)
        return [self.server.read() for _ in commands]

    def step(self, wire: Wire) -> None:
        """Have the server execute the next command of a wire, and let the reader go on."""
        command = wire.queue[0]
        reply = self._execute(command)
        name = name_of(command)
        if reply is None and name == b"XREADGROUP" and not wire.timed_out:
            wire.blocked = True
            return
        wire.blocked = wire.timed_out = False
        wire.queue.popleft()
        wire.replies.append(reply)
        self._count(wire, name, short := summary(name, reply))
        self.note(f"{wire}: {name.decode()} {short}".rstrip())
        self.executed(command, reply)
        if name in WRITES:
            self.unblock()
        if wire.reader is not None and not wire.owner.dead:
            wire.reader.switch()
        self._go_on()

    def _count(self, wire: Wire, name: bytes, short: str) -> None:
        counts = self.counts
        counts["commands"] += 1
        if name == b"XCLAIM":
            counts["takeovers"] += short != "0 messages"
        elif name == b"EVALSHA" and wire.purpose in ("loop", "side"):
            counts[f"commits: {short.split()[0]}"] += 1
            counts["commits of the dead"] += wire.owner.dead and short == "ok"

    def _go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if not each.dead:
                each.switch()

    def drain(self, replicas: Sequence[SteppedReplica]) -> None:
        """Let replicas alone go on, until each waits for a message."""
        for _ in range(2000):
            ready = [wire for wire in self.ready() if wire.owner in replicas]
            if not ready:
                return
            self.step(ready[0])
        raise AssertionError("replicas do not come to rest")

    def unblock(self) -> None:
        for wire in self.wires:
            wire.blocked = False

    def kill(self, victim: SteppedReplica) -> None:
        """Kill a replica; of what each connection has sent the server still gets some commands."""
        self.living.remove(victim)
        counts = self._leave_on_the_way(victim)
        self.note(f"{victim.name} dies, {counts} on the way")
        victim.kill()

    def cut(self, victim: SteppedReplica) -> None:
        """Cut the connections of a replica; the same becomes of what it has sent."""
        counts = self._leave_on_the_way(victim)
        self.note(f"{victim.name} loses its connections, {counts} on the way")
        victim.cut()

    def _leave_on_the_way(self, victim: SteppedReplica) -> int:
        for wire in (each for each in self.wires if each.owner is victim):
            left = self.random.randint(0, len(wire.queue))
            while len(wire.queue) > left:
                wire.queue.pop()
        return sum(len(each.queue) for each in self.wires if each.owner is victim)

    def end(self) -> None:
        """Kill all replicas; nothing is on the way any more."""
        for each in [*self.living]:
            self.kill(each)
        self.wires.clear()

    def _execute(self, command: Command | Transaction) -> Reply:
        if not isinstance(command, Transaction):
            return self.server.call(without_block(command))
        self.server.send([b"MULTI"], *command, [b"EXEC"])
        *_, reply = [self.server.read() for _ in range(len(command) + 2)]
        return reply
