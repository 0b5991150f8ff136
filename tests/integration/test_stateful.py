"""Whatever happens in any order, each key of a run is what a model in plain Python says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from roomgrad import Context, Message, codec
from roomgrad.errors import MessageError
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.redis.server import connect
from tests.integration.echo import ECHO, OUTPUT, REPLIES, REQUESTS, echo_component, numbers
from tests.integration.stateful import ANY, Replicas, examples
from tests.schedules.model import BAD, CLOSE, INPUT, LATE, OPEN, PLAIN
from tests.schedules.stepping import NAMES

LATE_S = 0.001
OUT, LATER = NAMES.stream(*REPLIES.key).encode(), NAMES.later("echo").encode()
ERRORS = NAMES.stream("errors", "LOG/ERROR").encode()
KNOWN = (b"run", b"alive:", b"input:", b"output:", b"@echo:", b"@listener:", b"errors:", b"dead")
KNOWN += (b"counters:echo", b"memory:echo", b"later:echo", b"done:echo:")


class Run(Replicas):
    """A run of the echo system."""

    def __init__(self) -> None:
        super().__init__()
        self.mended: set[str] = set()
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

    # what is stored

    @invariant()
    def every_key_is_as_the_model_says(self) -> None:
        model, ask = self.model, self.world.ask
        self.compare_groups()
        out, memory, received, dues, errors, keys = ask(
            [b"XRANGE", OUT, b"-", b"+"],
            [b"HKEYS", NAMES.memory("echo").encode()],
            [b"HGET", NAMES.counters("echo").encode(), b"received"],
            [b"ZCARD", LATER],
            [b"XLEN", ERRORS],
            [b"KEYS", b"*"],
        )
        roots = [codec.decode(entry.decode(), each, REPLIES).root_id for entry, each in out]
        assert sorted(roots) == sorted(model.replies)
        assert {each.decode() for each in memory} == model.memory
        assert int(received or 0) == model.received
        assert dues == len(model.late)
        assert errors == model.notices
        assert all(key.removeprefix(NAMES.prefix().encode()).startswith(KNOWN) for key in keys)

    def teardown(self) -> None:
        self.finish()
        self.every_key_is_as_the_model_says()
        for group in self.model.groups.values():
            assert group.done == {*group.entries}
        assert not self.model.late
        self.world.end()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that plays so many examples of so many rules on one server."""
    with examples(Run, tmp_path) as play:
        yield play


@pytest.mark.timeout(600)
def test_every_key_is_as_the_model_says(play: Callable[[int, int], None]) -> None:
    play(50, 30)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_key_in_many_runs(play: Callable[[int, int], None]) -> None:
    play(1000, 50)
