"""Bad parts and bad handlers of joins: each ends in a sentence, and the run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roomgrad import (
    Array,
    Component,
    Context,
    Message,
    ModelStatus,
    Parts,
    RuntimeSettings,
    System,
    join,
    on,
)
from roomgrad.errors import Stale, StrayMessage
from roomgrad.gather import Gathering
from roomgrad.memory import Memory
from roomgrad.ops.give_up import give_up
from tests.integration.conftest import make_echo_run
from tests.integration.graphs import branch as branching
from tests.integration.graphs.branch import batch
from tests.integration.graphs.graph_run import GraphRun
from tests.integration.graphs.join_run import JoinRun
from tests.integration.graphs.joins import (
    EMBEDDED,
    FORWARD,
    GRADIENT,
    JOINED,
    OUT,
    OWNERS,
    head,
    loss,
    owner,
)
from tests.waiting import until


@pytest.fixture
def run(embedded_url: str) -> Iterator[JoinRun]:
    for echo in make_echo_run(embedded_url):
        yield JoinRun(echo, JOINED, "joins")


def test_a_copy_of_a_part_does_not_take_its_gradient(run: JoinRun) -> None:
    """Its ID is answered once, by the join; the copy is counted and reported."""
    run.start(head())
    first = run.part("left", batch(0))
    until(lambda: run.memory("head"))
    run.send(replace(first), "left")
    until(lambda: run.echo.counter("late_parts", "head") == 1)
    other = run.part("right", batch(1), first)
    run.out(first)
    [answer] = run.answers(first)
    np.testing.assert_array_equal(answer.array, loss(batch(0), batch(1))[1])
    assert len(run.answers(other)) == 1
    assert "a part of left was not joined: left had sent one before" in run.reports()[0]
    assert run.echo.dead_letters() == []
    assert run.left_over() == {}


def stray(handler: Any) -> Component:
    """Return a joiner whose handler finds no memory of what it looks for, once."""

    @join(EMBEDDED, FORWARD, replies=[(EMBEDDED, GRADIENT), (OUT, FORWARD)], parts=OWNERS)
    def forward(parts: Parts, context: Context) -> Any:
        if not parts["left"].array.any():
            context.memory.pop("what was answered before")
        return handler(parts, context)

    return Component("head", JOINED, RuntimeSettings, [forward], logs=["joined"])


def test_a_joiner_that_finds_no_memory_gives_the_root_up(run: JoinRun) -> None:
    """Parts that were stored would wait for a part that has come."""
    run.owners()
    [handler] = head().handlers
    run.start(stray(handler))
    root = run.open(batch(0) * 0)
    [letter] = until(run.echo.dead_letters)
    assert b"no memory of what was answered before" in letter[b"history"]
    assert b'"root_given_up":true' in letter[b"history"]
    assert letter[b"ROOT_ID"].decode() == root.root_id
    until(lambda: run.left_over() == {})
    run.out(run.open(batch(1)))
    until(lambda: all(run.echo.counter("home", name) == 1 for name in OWNERS))
    assert len(run.echo.dead_letters()) == 1
    until(lambda: run.left_over() == {})


def test_an_owner_of_a_branch_that_finds_no_memory_gives_the_root_up(embedded_url: str) -> None:
    """Gradients that were stored would wait for one that has come."""
    made = branching.encoder()
    forward, gradient = made.handlers

    @on(branching.HIDDEN, GRADIENT, replies=[(branching.ENTER, GRADIENT)])
    def summed(message: Message, context: Context) -> Any:
        if not message.array.any():
            raise StrayMessage("nothing to learn from zeros")
        return gradient(message, context)

    for echo in make_echo_run(embedded_url):
        run = GraphRun(echo, branching.BRANCH, "branch")
        run.start(replace(made, handlers=[forward, summed]), *branching.heads())
        root = run.open(batch(0) * 0)
        [letter] = until(echo.dead_letters)
        assert b"nothing to learn from zeros" in letter[b"history"]
        assert b'"root_given_up":true' in letter[b"history"]
        assert letter[b"ROOT_ID"].decode() == root.root_id
        until(lambda run=run: run.left_over() == {})
        run.home(run.open(batch(1)))
        until(lambda run=run: run.left_over() == {})
        assert len(echo.dead_letters()) == 1


def test_gradients_of_members_that_differ_in_shape_give_the_root_up(embedded_url: str) -> None:
    """With a sentence, and nothing is learned; the next root is."""
    free = {"DATA": Array("<f4", ("n",))}
    of_any_shape = replace(branching.BRANCH.stream(branching.HIDDEN, GRADIENT), schema=free)
    others = [each for each in branching.BRANCH.streams if each.key != of_any_shape.key]
    system = System("shapes", (*others, of_any_shape), branching.BRANCH.components)
    for echo in make_echo_run(embedded_url):
        run = GraphRun(echo, system, "branch")
        run.start(replace(branching.encoder(), system=system))

        def train(number: int, cut: int, run: GraphRun = run) -> Message:
            root = run.open(batch(number))
            hidden = run.wait(branching.HIDDEN, FORWARD, root)
            for name in branching.ASKED:
                data = hidden.array[: cut if name == "critic" else None]
                run.send(hidden.reply(hidden.room, data, type=GRADIENT, id=hidden.id), name)
            return root

        root = train(0, cut=2)
        [letter] = until(echo.dead_letters)
        assert b"sent a gradient <f4 (2,) of" in letter[b"history"]
        assert letter[b"ROOT_ID"].decode() == root.root_id
        until(lambda run=run: run.left_over() == {})
        assert echo.counter("applied", "encoder") == 0
        run.home(train(1, cut=4))
        assert echo.counter("applied", "encoder") == 1
        assert len(echo.dead_letters()) == 1
        assert run.left_over() == {}


def test_parts_that_another_replica_has_taken_are_read_again() -> None:
    """Which came and what came are read one after the other."""

    class Reads:
        """Memory out of which the parts vanish after the first read."""

        def __init__(self, stored: dict[str, bytes | None]) -> None:
            self.stored = stored

        def hget(self, key: str, field: bytes) -> bytes | None:
            found, self.stored = self.stored.get(field.decode()), {}
            return found

        def hmget(self, key: str, fields: list[bytes]) -> list[bytes | None]:
            return [self.stored.get(each.decode()) for each in fields]

        def hgetall(self, key: str) -> dict[bytes, bytes]:
            raise NotImplementedError

        def time(self) -> float:
            raise NotImplementedError

    part = Message.open(EMBEDDED, batch(0))
    memory = Memory("memory", Reads({}), part.root_id)
    Gathering(memory, "join", OWNERS, part.root_id).add("left", part)
    torn = Memory("memory", Reads(memory.staged), part.root_id)
    with pytest.raises(Stale, match="messages of join are no longer in memory"):
        Gathering(torn, "join", OWNERS, part.root_id).take(("right", part))


def test_a_part_that_is_deleted_by_hand_gives_the_root_up(run: JoinRun) -> None:
    """With a sentence; the run goes on."""
    run.echo.settings["max_deliveries"] = 1
    run.owners()
    run.start(head())
    first = run.part("left", batch(0))
    until(lambda: run.memory("head"))
    [field] = [each for each in run.memory("head") if each.endswith(b" left")]
    run.echo.client.hdel(run.echo.names.memory("head"), field)
    run.part("right", batch(1), first)
    [letter] = until(run.echo.dead_letters)
    assert b"are no longer in memory" in letter[b"history"]
    until(lambda: run.left_over() == {})
    run.out(run.open(batch(2)))
    until(lambda: run.left_over() == {})
    assert run.joined() == [[*OWNERS]]


@pytest.mark.parametrize("by_id", [False, True])
def test_a_root_that_is_given_up_leaves_no_part_and_no_time(run: JoinRun, by_id: bool) -> None:
    """Of joins of a root, and of each ID."""
    run.start(head(by_id=by_id))
    first = run.part("left", batch(0))
    until(lambda: len(run.memory("head")) == 2)
    assert run.left_over() == {"head": 3}
    give_up(run.echo.client, run.echo.names, JOINED, [first.root_id])
    until(lambda: run.left_over() == {})
    assert not run.echo.client.exists(run.echo.names.later("head"))


def test_parts_to_differentiate_are_joined_and_teach_nothing(run: JoinRun) -> None:
    """A join gets each MODEL_STATUS, and its handler decides."""
    run.owners()
    run.start(head())
    run.out(run.open(batch(0), status=ModelStatus.DIFFERENTIATE))
    until(lambda: all(run.echo.counter("home", name) == 1 for name in OWNERS))
    assert [run.echo.counter("applied", name) for name in OWNERS] == [0, 0]
    assert run.echo.dead_letters() == []
    until(lambda: run.left_over() == {})


def test_a_part_without_a_gradient_is_answered_and_counted(run: JoinRun) -> None:
    """The handler names a gradient of one part alone, as if the other were of integers."""

    @join(EMBEDDED, FORWARD, replies=[(EMBEDDED, GRADIENT), (OUT, FORWARD)], parts=OWNERS)
    def forward(parts: Parts, context: Context) -> list[Message]:
        found = parts.gradients({"left": parts["right"].array})
        return [parts.reply(OUT, parts["left"].array), *found]

    run.start(*map(owner, OWNERS), Component("head", JOINED, RuntimeSettings, [forward]))
    for number in range(3):
        run.out(run.open(batch(number)))
    until(lambda: run.echo.counter("empty", "right") == run.echo.counter("home", "left") == 3)
    assert run.echo.counter("empty_gradients", "head") == 3
    assert run.echo.counter("late_parts", "head") == 0
    until(lambda: run.left_over() == {})
