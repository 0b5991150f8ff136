"""Whatever happens to a run that learns, its model is what its log and its snapshots say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from roomgrad import Message, codec
from roomgrad.rooms import Stream
from roomgrad.runtime.model.log import StepRecord
from roomgrad.runtime.model.writer import MOST, WANTED
from roomgrad.snapshots import pointers
from tests.integration.stateful import ANY, Replicas, examples, living
from tests.schedules.clients import ENTER as ROOM
from tests.schedules.clients import LEAVE, answer, batch
from tests.schedules.contracts import learner
from tests.schedules.learned import BACK, ENTER, FORWARD, GRADIENT, OUT, UP, Learned
from tests.schedules.stepping import NAMES

MODEL, LOG = NAMES.model("learner").encode(), NAMES.steps("learner").encode()
MEMORY, KEPT = NAMES.memory("learner").encode(), NAMES.kept("learner").encode()
PIECES = NAMES.snapshot_piece("learner", "*", "*").encode()


def key_of(stream: Stream) -> bytes:
    return NAMES.stream(*stream.key).encode()


class Learning(Replicas):
    """A run of a component whose model learns."""

    new_model = Learned
    model: Learned

    def __init__(self) -> None:
        super().__init__()
        self.component = learner()
        self.sent = 0
        self.has_lost = False  # a snapshot that leads to open roots

    def executed(self, command: Any, reply: Any) -> None:
        super().executed(command, reply)
        model = self.model
        if not isinstance(command, list) or not isinstance(reply, list) or reply[:1] != [b"ok"]:
            return
        if len(model.made) < len(model.outputs):
            self._made(model.outputs[-1])
        if model.tokens and len(model.tokens) < len(model.states):
            [[entry, fields]] = self.server.call([b"XREVRANGE", LOG, b"+", b"-", b"COUNT", b"1"])
            model.log.append(entry)
            model.tokens.append(StepRecord.of(fields).version)
        if b"PENDING" not in command and pointers.FIELD in command:
            last = len(command) - command[::-1].index(pointers.FIELD)
            model.point(pointers.from_json(command[last]))
            self.has_lost |= len(model.pointed) == MOST
            assert self.has_lost or model.leads_to_open()
        assert self.has_lost or not model.dead, "a gradient was given up"

    def _made(self, entry: bytes) -> None:
        [message] = self._messages(OUT, entry)
        record = codec.unpack(self.server.call([b"HGET", MEMORY, message.id.encode()]))
        step = self.model.tokens.index(record["weights"])
        self.model.made[message.id] = message.root_id, step

    def _messages(self, stream: Stream, entry: bytes = b"") -> list[Message]:
        ends = [entry or b"-", entry or b"+"]
        found = self.server.call([b"XRANGE", key_of(stream), *ends])
        return [codec.decode(entry.decode(), fields, stream) for entry, fields in found]

    # what a client does

    @rule(count=st.integers(1, 4))
    def send(self, count: int) -> None:
        for _ in range(count):
            self._open()

    @precondition(living)
    @rule(
        steps=st.integers(1, 4),
        roots=st.integers(1, 3),
        seconds=st.sampled_from([0.0, 1.1, 31.0]),
        commands=st.integers(0, 20),
        order=ANY,
    )
    def train(self, steps: int, roots: int, seconds: float, commands: int, order: int) -> None:
        """Let all replicas take some steps; one that is idle begins with a snapshot."""
        for _ in range(steps):
            self.send(roots)
            self.go_on(100, order)
            if self._unanswered():
                self.answer(order, roots)
            self.go_on(100, order)
        self.world.clock_s += seconds
        self.redeliver(order)
        self.go_on(commands, order)

    def _open(self) -> None:
        self.sent += 1
        message = Message.open(ROOM, batch(self.sent), seed=self.sent)
        self.model.batches[message.root_id] = message.array
        self._add(ENTER, message, FORWARD, message.root_id)

    def _unanswered(self) -> list[Message]:
        return [each for each in self._messages(OUT) if each.id not in self.model.upstream]

    @precondition(lambda self: self.model.made.keys() - self.model.upstream.keys())
    @rule(which=ANY, most=st.integers(1, 4))
    def answer(self, which: int, most: int) -> None:
        """Answer outputs by their gradients."""
        left = self._unanswered()
        begin = which % len(left)
        for each in left[begin : begin + most]:
            message = each.reply(LEAVE, answer(each.array), type="DATA/GRADIENT", id=each.id)
            self.model.upstream[each.id] = message.array
            self._add(UP, message, GRADIENT, each.id)

    def _add(self, stream: Stream, message: Message, kind: int, root: str) -> None:
        fields = codec.encode(message, stream)
        entry = self.server.call([b"XADD", key_of(stream), b"*", *fields])
        self.model.add(key_of(stream), entry, kind, root)
        self.world.unblock()

    # what happens to snapshots

    @rule()
    def time_passes(self) -> None:
        super().time_passes()

    @rule()
    def half_a_minute_passes(self) -> None:
        """A snapshot is durable then."""
        self.world.clock_s += 31.0

    @precondition(lambda self: self.model.tokens and self.world.living)
    @rule(which=ANY, commands=st.integers(0, 12))
    def snapshot(self, which: int, commands: int) -> None:
        """Ask for a snapshot, and let a replica begin with it."""
        self.server.call([b"HSET", MODEL, WANTED, b"1"])
        self.model.wanted = True
        self.redeliver(which)
        for _ in range(commands):
            if ready := [w for w in self.world.ready() if w.owner is self._chosen(which)]:
                self.world.step(ready[-1])  # of the thread, once that has a connection

    @precondition(lambda self: len({*self.model.pointed} - self.model.lost) > 1)
    @rule()
    def lose_a_snapshot(self) -> None:
        """Delete the bytes of the newest one that is whole."""
        step = max({*self.model.pointed} - self.model.lost)
        stored = pointers.from_json(self.server.call([b"HGET", MODEL, pointers.FIELD]))
        self.server.call([b"DEL", _piece(stored[self.model.pointed.index(step)])])
        self.model.lost.add(step)
        self.has_lost = True

    # what is stored

    @invariant()
    def every_key_is_as_the_model_says(self) -> None:
        self.compare_groups()
        model, ask = self.model, self.world.ask
        memory, kept, fields, log = ask(
            [b"HKEYS", MEMORY],
            [b"HGETALL", KEPT],
            [b"HGETALL", MODEL],
            [b"XRANGE", LOG, b"-", b"+"],
        )
        assert {each.decode() for each in memory} == model.open().keys()
        assert _pairs(kept) == {each: b"%d" % n for each, n in model.kept().items()}
        self._compare_messages()
        records = [(entry, StepRecord.of(each)) for entry, each in log]
        begin = model.trimmed
        assert [entry for entry, _ in records] == model.log[begin:]
        for step, (_, record) in enumerate(records, begin + 1):
            versions = (model.tokens[step - 1], model.tokens[step], step)
            assert (record.before, record.version, record.step) == versions
        stored = _pairs(fields)
        found = pointers.from_json(stored.pop(pointers.FIELD.decode(), None))
        assert [each.version for each in found] == [model.tokens[each] for each in model.pointed]
        self._compare_pieces(found)
        expected = {WANTED.decode(): b"1"} if model.wanted else {}
        if model.tokens:
            expected |= {"version": model.tokens[-1].encode(), "step": b"%d" % len(model.log)}
        assert stored == expected

    def _compare_messages(self) -> None:
        model = self.model
        outputs, gradients = self._messages(OUT), self._messages(BACK)
        assert [each.id for each in outputs] == [*model.made]
        for each in outputs:
            np.testing.assert_array_equal(each.array, model.output(each.id))
        assert len(gradients) == len(model.learned)
        for each, id_ in zip(gradients, model.learned, strict=True):
            np.testing.assert_array_equal(each.array, model.gradient(id_))

    def _compare_pieces(self, found: list[pointers.Snapshot]) -> None:
        """What nothing points to expires; what is pointed to does not, and is as it was taken."""
        model, ask = self.model, self.world.ask
        pairs = zip(found, model.pointed, strict=True)
        whole = {_piece(each): step for each, step in pairs if step not in model.lost}
        keys = ask([b"KEYS", PIECES])[0]
        lives = zip(keys, ask(*([b"PTTL", key] for key in keys)), strict=True)
        assert {key for key, ms in lives if ms == -1} == whole.keys()
        contents = ask(*([b"GET", key] for key in whole))
        assert contents == [bytes(model.states[step].dump()) for step in whole.values()]

    def teardown(self) -> None:
        """Let one replica finish everything: its weights are those of the log."""
        last = self.finish()
        self.every_key_is_as_the_model_says()
        for group in self.model.groups.values():
            assert group.done == {*group.entries}
        assert bytes(last.model.dump()) == bytes(self.model.states[-1].dump())
        self.world.end()


def _pairs(flat: list[bytes]) -> dict[str, bytes]:
    names = [each.decode() for each in flat[::2]]
    return dict(zip(names, flat[1::2], strict=True))


def _piece(snapshot: pointers.Snapshot) -> bytes:
    return NAMES.snapshot_piece("learner", snapshot.place.partition(":")[2], 0).encode()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[[int, int], None]]:
    with examples(Learning, tmp_path) as play:
        yield play


@pytest.mark.timeout(600)
def test_a_model_is_what_its_log_says(play: Callable[[int, int], None]) -> None:
    play(60, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_model_in_many_runs(play: Callable[[int, int], None]) -> None:
    play(1000, 50)
