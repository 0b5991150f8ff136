"""Whatever happens in any order, each key of a run is what a model in plain Python says."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from roomgrad import Context, Message, codec
from roomgrad.errors import MessageError
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.ops.backup.restore import restore
from roomgrad.ops.backup.save import save
from roomgrad.redis.connection import Connection
from roomgrad.redis.server import connect
from tests.integration.echo import ECHO, OUTPUT, REPLIES, REQUESTS, echo_component, numbers
from tests.schedules.model import BAD, CLOSE, INBOX, INPUT, LATE, OPEN, PLAIN, Model
from tests.schedules.schedule import SETTINGS, a_server
from tests.schedules.stepping import NAMES, SteppedReplica, World

MOST_REPLICAS = 3
MOST_COPIES, MOST_DISASTERS = 2, 3  # of one run
LATE_S = 0.001
STREAMS = {key: NAMES.done("echo", *key.decode().split(":", 2)[1:]) for key in (INPUT, INBOX)}
OUT, LATER = NAMES.stream(*REPLIES.key).encode(), NAMES.later("echo").encode()
ERRORS = NAMES.stream("errors", "LOG/ERROR").encode()
KNOWN = (b"run", b"alive:", b"input:", b"output:", b"@echo:", b"@listener:", b"errors:", b"dead")
KNOWN += (b"counters:echo", b"memory:echo", b"later:echo", b"done:echo:")
ANY = st.integers(0, 1000)


def living(run: Run) -> bool:
    return bool(run.world.living)


class Run(RuleBasedStateMachine):
    """A run of the echo system, and what its replicas and operators do to it."""

    server: Connection
    url: str
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.server.call([b"FLUSHALL"])
        self.world = World(self.server, 0, 1.0)
        self.world.executed = self.executed
        self.model = Model()
        self.disasters = 0
        self.mended: set[str] = set()
        self.copies: list[tuple[Model, Callable[[], object]]] = []
        self.component = echo_component(self.handle)

    def handle(self, message: Message, context: Context) -> Message | None:
        kind = int(message.fields["HOW"])
        context.counters.add("received")
        if kind == BAD and message.entry not in self.mended:
            raise MessageError("it is bad")
        if kind == OPEN:
            context.memory.put(message.root_id, number=1)
        if kind == CLOSE:
            context.memory.pop(message.root_id)
        reply = message.reply(OUTPUT, message.array)
        if kind != LATE:
            return reply
        context.send(reply, after_s=LATE_S)
        return None

    @initialize(replicas=st.integers(1, MOST_REPLICAS))
    def begin(self, replicas: int) -> None:
        for _ in range(replicas):
            self.start(True)

    def executed(self, command: Any, reply: Any) -> None:
        """Tell the model what the server has executed for a replica."""
        if isinstance(command, bytes):
            for key, entries in reply if isinstance(reply, list) else ():
                self.model.read(key, [entry for entry, _ in entries])
        elif command[0] == b"EVALSHA":
            keys = command[3 : 3 + int(command[2])]
            words = command[3 + len(keys) :]
            if words[2:3] == [b"PENDING"]:
                self.model.commit(keys[int(words[3]) - 1], words[6], reply)
            elif words == [b"echo"] and reply == 1 and keys[0] in self.model.groups:
                self.model.groups[keys[0]].create()

    # what a client does

    @rule(kinds=st.lists(st.sampled_from([PLAIN, LATE, BAD, OPEN]), min_size=1, max_size=4))
    def send(self, kinds: list[int]) -> None:
        for kind in kinds:
            self._send(Message.open(REQUESTS.room, numbers(1)), kind)

    @precondition(lambda self: self.model.memory)
    @rule(which=ANY)
    def close(self, which: int) -> None:
        kinds = self.model.kinds.values()
        if roots := sorted(r for r in self.model.memory if (CLOSE, r) not in kinds):
            message = Message.open(REQUESTS.room, numbers(2))
            message.root_id = roots[which % len(roots)]
            self._send(message, CLOSE)

    def _send(self, message: Message, kind: int) -> None:
        message.fill({}, HOW=numbers(kind).astype("<i8")[0])
        fields = codec.encode(message, REQUESTS)
        entry = self.server.call([b"XADD", INPUT, b"*", *fields])
        self.model.add(INPUT, entry, kind, message.root_id)
        self.world.unblock()

    # what happens to replicas

    @precondition(lambda self: len(self.world.living) < MOST_REPLICAS)
    @rule(ready=st.booleans())
    def start(self, ready: bool) -> None:
        added = self.world.add(self.component, SETTINGS, quick=ready)
        if ready:
            self.world.drain([added])

    @rule(which=st.lists(ANY, min_size=5, max_size=40))
    def go_on(self, which: list[int]) -> None:
        """Have the server execute some commands; each replica gets its answers."""
        for number in which:
            if ready := self.world.ready():
                self.world.step(ready[number % len(ready)])

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

    @rule()
    def time_passes(self) -> None:
        """Delayed messages are due, and handlers that raised are tried again."""
        if self.world.living:
            time.sleep(2 * LATE_S)
            self.world.living[0]._scheduler.deliver(self.server)
            self.model.replies += self.model.late
            self.model.late.clear()
        self.world.clock_s += 1.1

    # what operators do, and what becomes of the server

    @precondition(lambda self: self.model.dead and self.model.groups[INPUT].exists)
    @rule(which=ANY)
    def requeue(self, which: int) -> None:
        letter = sorted(self.model.dead)[which % len(self.model.dead)]
        with connect(self.url) as client:
            dead_letters = DeadLetters(client, NAMES, ECHO)
            entry = dead_letters.requeue(dead_letters.get(letter.decode()))
        self.mended.add(entry)
        self.model.add(INPUT, entry.encode(), PLAIN, self.model.dead.pop(letter))
        self.world.unblock()

    @precondition(lambda self: len(self.copies) < MOST_COPIES and self.model.groups[INPUT].exists)
    @rule(copied=st.sampled_from(["_dumped", "_saved"]))
    def keep(self, copied: str) -> None:
        """Keep what is stored: the bytes of all keys, or a backup."""
        go_back = getattr(self, copied)()
        self.copies.append((copy.deepcopy(self.model), go_back))

    def _dumped(self) -> Callable[[], object]:
        keys = self.server.call([b"KEYS", b"*"])
        values = self.world.ask(*([b"DUMP", key] for key in keys))
        pairs = zip(keys, values, strict=True)
        restores = [[b"RESTORE", key, b"0", value] for key, value in pairs]
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
            self.model = Model()
        else:
            key = INPUT if which % 2 else INBOX
            self.server.call([b"XGROUP", b"DESTROY", key, b"echo"])
            self.model.groups[key].destroy()
        self.disasters += 1
        self.world.tokens.clear()
        self.world.unblock()
        for each in [*self.world.living] if cuts else []:
            self.world.cut(each)

    # what is stored

    @invariant()
    def every_key_is_as_the_model_says(self) -> None:
        model, ask = self.model, self.world.ask
        assert self.world.errors == []
        for key, done in STREAMS.items():
            group = model.groups[key]
            entries, pending, marks = ask(
                [b"XRANGE", key, b"-", b"+"],
                [b"XPENDING", key, b"echo", b"-", b"+", b"1000"],
                [b"ZRANGE", done.encode(), b"0", b"-1"],
            )
            assert [entry for entry, _ in entries] == group.entries
            owed = {each[0] for each in pending} if isinstance(pending, list) else set()
            assert owed == group.pending
            assert set(marks) == group.done
        out, memory, received, dues, dead, errors, keys = ask(
            [b"XRANGE", OUT, b"-", b"+"],
            [b"HKEYS", NAMES.memory("echo").encode()],
            [b"HGET", NAMES.counters("echo").encode(), b"received"],
            [b"ZCARD", LATER],
            [b"XRANGE", NAMES.dead().encode(), b"-", b"+"],
            [b"XLEN", ERRORS],
            [b"KEYS", b"*"],
        )
        roots = [codec.decode(entry.decode(), each, REPLIES).root_id for entry, each in out]
        assert sorted(roots) == sorted(model.replies)
        assert {each.decode() for each in memory} == model.memory
        assert int(received or 0) == model.received
        assert dues == len(model.late)
        assert {entry for entry, _ in dead} == {*model.dead}
        assert errors == model.notices
        assert all(key.removeprefix(NAMES.prefix().encode()).startswith(KNOWN) for key in keys)

    def teardown(self) -> None:
        """Let one replica finish everything."""
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
        self.every_key_is_as_the_model_says()
        for group in self.model.groups.values():
            assert group.done == {*group.entries}
        assert not self.model.late
        self.world.end()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that plays so many examples of so many rules on one server."""
    with a_server() as server:
        host, port = server._options["host"], server._options["port"]
        url = f"redis://{host}:{port}/0"
        run = type("Run", (Run,), {"server": server, "url": url, "folder": tmp_path})

        def examples(count: int, steps: int) -> None:
            found = settings(
                max_examples=count,
                stateful_step_count=steps,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            run_state_machine_as_test(run, settings=found)

        yield examples


@pytest.mark.timeout(600)
def test_every_key_is_as_the_model_says(play: Callable[[int, int], None]) -> None:
    play(50, 30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_key_in_many_runs(play: Callable[[int, int], None]) -> None:
    play(1000, 50)
