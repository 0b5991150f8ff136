"""What happens to the replicas of a run and to its server, in any order: rules of hypothesis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from roomgrad import Component
from roomgrad.ops.backup.restore import restore
from roomgrad.ops.backup.save import save
from roomgrad.redis.connection import Connection
from roomgrad.redis.server import connect
from tests.schedules.model import Model
from tests.schedules.schedule import SETTINGS, a_server
from tests.schedules.stepping import NAMES, SteppedReplica, World
from tests.schedules.wires import name_of

MOST_REPLICAS = 3
MOST_COPIES, MOST_DISASTERS = 2, 3  # of one run
ANY = st.integers(0, 1000)


def living(run: Replicas) -> bool:
    return bool(run.world.living)


def is_prepared(run: Replicas) -> bool:
    return all(group.exists for group in run.model.groups.values())


class Replicas(RuleBasedStateMachine):
    """A run of one component, and what its replicas and operators do to it."""

    server: Connection
    url: str
    folder: Path
    component: Component
    new_model: Callable[[], Any] = Model

    def __init__(self) -> None:
        super().__init__()
        self.server.call([b"FLUSHALL"])
        self.world = World(self.server, 0, 1.0)
        self.world.executed = self.executed
        self.model = type(self).new_model()
        self.disasters = 0
        self.copies: list[tuple[Model, Callable[[], object]]] = []

    @initialize(replicas=st.integers(1, MOST_REPLICAS))
    def begin(self, replicas: int) -> None:
        for _ in range(replicas):
            self.start(True)

    def executed(self, command: Any, reply: Any) -> None:
        """Tell the model what the server has executed for a replica."""
        if name_of(command) == b"XREADGROUP":
            for key, entries in reply if isinstance(reply, list) else ():
                self.model.read(key, [entry for entry, _ in entries])
        elif name_of(command) == b"EVALSHA":
            keys = command[3 : 3 + int(command[2])]
            words, groups = command[3 + len(keys) :], self.model.groups
            if words[2:3] == [b"PENDING"]:
                self.model.commit(keys[int(words[3]) - 1], words[6], reply)
            elif words == [self.component.name.encode()] and reply == 1 and keys[0] in groups:
                groups[keys[0]].create()

    # what happens to replicas

    @precondition(lambda self: len(self.world.living) < MOST_REPLICAS)
    @rule(ready=st.booleans())
    def start(self, ready: bool) -> None:
        added = self.world.add(self.component, SETTINGS, quick=ready)
        if ready:
            self.world.drain([added])

    @rule(commands=st.integers(5, 60), order=ANY)
    def go_on(self, commands: int, order: int) -> None:
        """Have the server execute some commands; each replica gets its answers."""
        draw = Random(order)
        for _ in range(commands):
            if ready := self.world.ready():
                self.world.step(draw.choice(ready))

    @precondition(living)
    @rule(which=ANY)
    def deliver(self, which: int) -> None:
        """Let a replica handle all that it finds."""
        self.world.drain([self._chosen(which)])

    @precondition(living)
    @rule(which=ANY)
    def die(self, which: int) -> None:
        self.world.kill(self._chosen(which))

    @precondition(living)
    @rule(which=ANY)
    def cut(self, which: int) -> None:
        self.world.cut(self._chosen(which))

    @precondition(living)
    @rule(which=ANY)
    def redeliver(self, which: int) -> None:
        """Let a replica find what all others have in hand."""
        self._chosen(which).heartbeat()
        self._chosen(which).catch_up()

    def _chosen(self, which: int) -> SteppedReplica:
        return self.world.living[which % len(self.world.living)]

    # what operators do, and what becomes of the server

    @precondition(lambda self: len(self.copies) < MOST_COPIES and is_prepared(self))
    @rule(copied=st.sampled_from(["_dumped", "_saved"]))
    def keep(self, copied: str) -> None:
        """Keep what is stored: the bytes of all keys, or a backup."""
        go_back, model = getattr(self, copied)(), copy.deepcopy(self.model)
        if copied == "_saved":
            model.saved()
        self.copies.append((model, go_back))

    def _dumped(self) -> Callable[[], object]:
        keys = self.server.call([b"KEYS", b"*"])
        values = self.world.ask(*([b"DUMP", key] for key in keys))
        lives = self.world.ask(*([b"PTTL", key] for key in keys))
        restores = [
            [b"RESTORE", key, b"%d" % max(0, ms), value]
            for key, value, ms in zip(keys, values, lives, strict=True)
        ]
        return lambda: self.world.ask([b"FLUSHALL"], *restores)

    def _saved(self) -> Callable[[], object]:
        path = self.folder / f"{len(self.copies)}.backup"
        with connect(self.url) as client:
            save(client, NAMES, path, force=True)
        return lambda: self._restore(path)

    def _restore(self, path: Path) -> None:
        for each in [*self.world.living]:
            self.world.kill(each)
        self.world.ask([b"DEL", b"none", *self.world.alive])
        with connect(self.url) as client, path.open("rb") as file:
            restore(client, file, str(path), "", fresh=True)

    @precondition(lambda self: self.disasters < MOST_DISASTERS)
    @rule(which=st.integers(0, MOST_COPIES + 2), cuts=st.booleans())
    def lose(self, which: int, cuts: bool) -> None:
        """Empty the server, destroy a group, or go back to what it had stored before."""
        if which < len(self.copies):
            model, go_back = self.copies[which]
            go_back()
            self.model = copy.deepcopy(model)
        elif which == MOST_COPIES:
            self.server.call([b"FLUSHALL"])
            self.model = type(self).new_model()
        else:
            key = [*self.model.groups][which % len(self.model.groups)]
            self.server.call([b"XGROUP", b"DESTROY", key, self.component.name.encode()])
            self.model.groups[key].destroy()
        self.disasters += 1
        self.world.tokens.clear()
        self.world.unblock()
        for each in [*self.world.living] if cuts else []:
            self.world.cut(each)

    def compare_groups(self) -> None:
        """Compare dead letters, and each stream of the component: entries, pending, done."""
        name = self.component.name
        assert self.world.errors == []
        [dead] = self.world.ask([b"XRANGE", NAMES.dead().encode(), b"-", b"+"])
        assert {entry for entry, _ in dead} == {*self.model.dead}
        for key, group in self.model.groups.items():
            _, room, type_ = key.decode().split(":", 2)
            entries, pending, marks = self.world.ask(
                [b"XRANGE", key, b"-", b"+"],
                [b"XPENDING", key, name.encode(), b"-", b"+", b"1000"],
                [b"ZRANGE", NAMES.done(name, room, type_).encode(), b"0", b"-1"],
            )
            assert [entry for entry, _ in entries] == group.entries
            owed = {each[0] for each in pending} if isinstance(pending, list) else set()
            assert owed == group.pending
            assert set(marks) == group.done

    def finish(self) -> SteppedReplica:
        """Let one replica finish everything; return it."""
        for each in [*self.world.living]:
            self.world.kill(each)
        self.world.wires.clear()
        last = self.world.add(self.component, SETTINGS, quick=False)
        for _ in range(5):
            self.world.drain([last])
            last.heartbeat()
            last.catch_up()
            self.time_passes()
        self.world.drain([last])
        return last

    def time_passes(self) -> None:
        self.world.clock_s += 1.1


@contextmanager
def examples(machine: type[Replicas], folder: Path) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that plays so many examples of so many rules on one server."""
    with a_server() as server:
        _, port = server.call([b"CONFIG", b"GET", b"port"])
        url = f"redis://127.0.0.1:{port.decode()}/0"
        run = type(machine.__name__, (machine,), {"server": server, "url": url, "folder": folder})

        def play(count: int, steps: int) -> None:
            found = settings(
                max_examples=count,
                stateful_step_count=steps,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            run_state_machine_as_test(run, settings=found)

        yield play
