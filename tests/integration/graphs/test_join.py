"""A join: a handler gets all parts of a root, and each sender its gradient, exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from roomgrad import Message, ModelStatus
from roomgrad.ops.give_up import give_up
from roomgrad.redis.client import Client
from tests.integration.conftest import make_echo_run
from tests.integration.graphs.branch import batch
from tests.integration.graphs.graph_run import kill, killed
from tests.integration.graphs.join_run import ERROR, JoinRun
from tests.integration.graphs.joins import (
    EMBEDDED,
    ENTER,
    GRADIENT,
    JOINED,
    OUT,
    OWNERS,
    head,
    one_process,
    owner,
)
from tests.integration.graphs.three import THREE, three
from tests.waiting import LIMIT_S, until


@pytest.fixture
def join(embedded_url: str) -> Iterator[JoinRun]:
    for echo in make_echo_run(embedded_url):
        yield JoinRun(echo, JOINED, "joins")


def train(join: JoinRun, count: int, begin: int = 0) -> None:
    """Train some batches, one in flight: until both owners have learned."""
    for number in range(begin, begin + count):
        join.out(join.open(batch(number)))
        both_learned(join, number + 1)


def both_learned(join: JoinRun, count: int) -> None:
    """Wait until so many gradients have come home to both owners."""
    until(lambda: all(join.echo.counter("home", name) == count for name in OWNERS))


def test_both_owners_learn_with_the_bits_of_one_process(join: JoinRun) -> None:
    join.owners()
    join.start(head())
    train(join, 5)
    join.check(5)
    assert join.joined() == [[*OWNERS]] * 5
    for name, model in one_process(5).items():
        assert join.content(name) == bytes(model.dump())


def test_parts_are_in_the_order_of_the_join(join: JoinRun) -> None:
    join.start(head())
    first = join.part("right", batch(0))
    until(lambda: join.memory("head"))
    second = join.part("left", batch(1), first)
    join.out(first)
    assert join.joined() == [["left", "right"]]
    np.testing.assert_array_equal(join.answers(second)[0].array, batch(0) / np.float32(3))
    np.testing.assert_array_equal(join.answers(first)[0].array, batch(1) * np.float32(0.1))
    assert [join.answers(each)[0].to for each in (first, second)] == ["right", "left"]


def test_several_replicas_of_each_lose_no_part(join: JoinRun) -> None:
    """Parts of many roots arrive at three replicas in any order."""
    join.start(*(owner(name) for name in OWNERS for _ in range(2)), head(), head(), head())
    roots = [join.open(batch(number)) for number in range(30)]
    for root in roots:
        join.out(root)
    join.check(30)


@pytest.mark.parametrize("point", ["receive 2", *(f"send {n}" for n in range(1, 5)), "answer 2"])
def test_the_joiner_is_killed_at_each_point(join: JoinRun, point: str) -> None:
    """Between the parts, too; another replica goes on."""
    join.owners()
    first = join.spawn("head", point)
    roots = [join.open(batch(0)), join.open(batch(1))]
    killed(first)
    join.start(head())
    for root in roots:
        join.out(root)
    join.check(2)


def test_kills_with_one_batch_in_flight_change_no_bit(join: JoinRun) -> None:
    """The joiner before each of its commits, and an owner before its last one."""
    replicas = dict(zip(OWNERS, join.start(*map(owner, OWNERS)), strict=True))
    for number, (name, point) in enumerate(
        [("head", "send 1"), ("head", "send 2"), ("right", "send 2")]
    ):
        if name in replicas:
            join.echo.stop(replicas[name])
            join.start(head())
        process = join.spawn(name, point)
        root = join.open(batch(number))
        killed(process)
        process = join.spawn(name)
        join.out(root)
        both_learned(join, number + 1)
        kill(process)
    join.check(3)
    join.start(owner("right"))
    for name, model in one_process(3).items():
        assert join.content(name) == bytes(model.dump())


def test_a_validation_is_joined_and_answered_by_no_gradient(join: JoinRun) -> None:
    join.owners()
    join.start(head())
    root = join.open(batch(0), status=ModelStatus.VALIDATE)
    expected = batch(0) * np.cos(batch(0))  # w is 1
    np.testing.assert_array_equal(join.out(root).array, expected)
    assert join.length(EMBEDDED, GRADIENT) == 0
    until(lambda: join.left_over() == {})


def test_enough_parts_are_joined_after_the_time(join: JoinRun) -> None:
    """The late part gets an empty gradient, and its lateness is counted and reported."""
    join.start(head(least=1, wait_s=0.3), owner("left"))
    root = join.open(batch(0))
    output = join.out(root)
    np.testing.assert_array_equal(output.array, batch(0) * 0)
    assert join.joined() == [["left"]]
    assert any("joined without right" in each for each in join.reports())
    until(lambda: join.left_over() == {})
    join.start(owner("right"))
    until(lambda: join.echo.counter("empty", "right"))
    assert join.echo.counter("applied", "right") == 0
    assert join.echo.counter("late_parts", "head") == 1
    assert join.echo.counter("incomplete_joins", "head") == 1
    assert "right was not joined: its root was joined before" in join.reports()[-1]
    assert join.joined() == [["left"]]
    assert join.echo.dead_letters() == []
    assert join.left_over() == {}


def test_all_parts_in_time_do_not_wait(join: JoinRun) -> None:
    """The time does not run out afterwards, either."""
    join.owners()
    join.start(head(least=1, wait_s=1000.0))
    train(join, 2)
    join.check(2)
    assert join.joined() == [[*OWNERS]] * 2


def test_the_part_that_makes_enough_is_joined_when_it_comes(join: JoinRun) -> None:
    """After the time, and without the last one."""
    run = JoinRun(join.echo, THREE, "three")
    run.start(three(least=2, wait_s=0.2, expire_s=1000.0))
    first = run.part("a", batch(0))
    until(lambda: any(b"late" in each for each in run.memory("head").values()))
    run.part("c", batch(1), first)
    run.out(first)
    assert run.joined() == [["a", "c"]]
    assert run.echo.counter("incomplete_joins", "head") == 1
    assert any("joined without b" in each for each in run.reports())
    until(lambda: run.left_over() == {})


def test_parts_expire_and_their_root_is_given_up(join: JoinRun) -> None:
    """With a sentence; the owner forgets its part, and what comes later is dropped."""
    join.start(head(expire_s=0.3), owner("left"))
    root = join.open(batch(0))
    [letter] = until(join.echo.dead_letters)
    assert (
        b"no part of right came to embedded DATA/FORWARD within 0.3 s, only that of left"
        in letter[b"history"]
    )
    assert letter[b"ROOT_ID"].decode() == root.root_id
    until(lambda: join.left_over() == {})
    join.start(owner("right"))
    join.out(join.open(batch(1)))
    until(lambda: join.echo.counter("home", "right") == 1)
    assert len(join.echo.dead_letters()) == 1
    assert join.echo.counter("late_parts", "head") == 0
    until(lambda: join.left_over() == {})


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_part_that_comes_twice_is_joined_once(join: JoinRun, when: str) -> None:
    """The second gets an empty gradient, before the join and after it."""
    join.start(head())
    first = join.part("left", batch(0))
    if when == "before":
        until(lambda: join.memory("head"))
        twice = join.part("left", batch(1), first)
        until(lambda: join.answers(twice))
    other = join.part("right", batch(2), first)
    join.out(first)
    if when == "after":
        twice = join.part("left", batch(1), first)
        until(lambda: join.answers(twice))
    [empty] = join.answers(twice)
    assert empty.data is None
    [of_first], [of_other] = join.answers(first), join.answers(other)
    np.testing.assert_array_equal(of_first.array, batch(2) / np.float32(3))
    np.testing.assert_array_equal(of_other.array, batch(0) * np.float32(0.1))
    assert join.echo.counter("late_parts", "head") == 1
    assert len(join.reports()) == 1
    assert join.echo.dead_letters() == []
    assert join.left_over() == {}


def test_a_part_of_a_component_that_is_none_of_the_join_is_a_dead_letter(join: JoinRun) -> None:
    """The root goes on."""
    join.start(head())
    first = join.part("left", batch(0))
    join.part("stranger", batch(1), first)
    [letter] = until(join.echo.dead_letters)
    assert b"stranger sent a part of root" in letter[b"history"]
    assert b"which the join expects from left, right" in letter[b"history"]
    join.part("right", batch(2), first)
    join.out(first)
    assert join.joined() == [[*OWNERS]]


def test_parts_of_a_root_that_was_given_up_are_dropped(join: JoinRun) -> None:
    """They leave no memory, and are no second dead letter."""
    join.start(head())
    bad = join.part("left", batch(0))
    inbox = join.echo.names.stream("@head", ERROR)
    until(join.left_over)
    give_up(join.echo.client, join.echo.names, JOINED, [bad.root_id])
    until(lambda: join.echo.client.xpending(inbox, "head")["pending"] == 0 and not join.left_over())
    part = join.part("right", batch(1), bad)
    after = join.part("left", batch(2))
    join.part("right", batch(3), after)
    join.out(after)
    assert join.answers(part) == []
    assert join.echo.dead_letters() == []
    assert join.left_over() == {}


def test_a_joiner_that_fails_gives_the_root_up_everywhere(join: JoinRun) -> None:
    """The next root is joined."""
    join.owners()
    join.start(head())
    join.open(batch(0) * 0)
    [letter] = until(join.echo.dead_letters)
    assert b"only zeros" in letter[b"history"]
    until(lambda: join.left_over() == {})
    join.out(join.open(batch(0)))
    both_learned(join, 1)
    assert len(join.echo.dead_letters()) == 1
    until(lambda: join.left_over() == {})


def test_the_root_of_a_guest_is_joined(join: JoinRun) -> None:
    """Its answer comes to the guest, and each owner learns once."""
    join.owners()
    join.start(head())
    with Client(JOINED, join.echo.names.run, join.echo.url) as client:
        guest = client.guest
        message = Message.open(ENTER, batch(0))
        guest.open(message, OUT)
        found = guest.wait(message.root_id, timeout_s=LIMIT_S)
        np.testing.assert_array_equal(found.array, batch(0) * np.cos(batch(0)))  # w is 1
        both_learned(join, 1)
    assert join.echo.counter("joined", "head") == 1
    assert join.echo.dead_letters() == []
    until(lambda: join.left_over() == {})


def test_the_parts_of_each_id_are_joined_by_themselves(join: JoinRun) -> None:
    """A root of many steps: the parts of one may not complete another, nor end it."""
    join.start(head(by_id=True))
    first = join.part("left", batch(0))
    steps = [replace(first, id=id_) for id_ in ("second", "third")]
    for name in OWNERS:
        for step in steps:
            join.send(replace(step, data=batch(1)), name)
    for step in steps:
        until(lambda step=step: len(join.answers(step)) == 2)
    assert join.answers(first) == []
    join.send(replace(first, data=batch(1)), "right")
    until(lambda: len(join.answers(first)) == 2)
    assert join.joined() == [[*OWNERS]] * 3
    assert join.left_over() == {}


def test_enough_parts_of_an_id_are_joined_after_the_time(join: JoinRun) -> None:
    join.start(head(by_id=True, least=1, wait_s=0.3))
    first = join.part("left", batch(0))
    until(lambda: join.joined() == [["left"]])
    join.send(replace(first, data=batch(1)), "right")
    until(lambda: join.echo.counter("late_parts", "head") == 1)
    join.part("left", batch(0), first)  # another step of the same root
    until(lambda: join.joined() == [["left"]] * 2)
    until(lambda: join.left_over() == {})
