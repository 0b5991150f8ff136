"""A branch: several components answer a forward message, and its sender gets one sum."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from roomgrad import Message, ModelStatus
from roomgrad.redis.client import Client
from tests.integration.conftest import make_echo_run
from tests.integration.graphs.branch import (
    ASKED,
    BRANCH,
    ENTER,
    FORWARD,
    GRADIENT,
    HIDDEN,
    answering,
    batch,
    encoder,
    heads,
    logger,
    one_process,
)
from tests.integration.graphs.graph_run import GraphRun, kill, killed
from tests.waiting import LIMIT_S, until


class Branch(GraphRun):
    """A run of the system that branches."""

    def hidden(self, root: Message) -> Message:
        """Wait for what the encoder sends."""
        return self.wait(HIDDEN, FORWARD, root)

    def train(self, count: int, begin: int = 0) -> None:
        """Train some batches, one in flight."""
        for number in range(begin, begin + count):
            self.home(self.open(batch(number)))

    def check(self, steps: int) -> None:
        """Require one step for each batch, and that nothing is left over."""
        counted = [self.echo.counter(name, "encoder") for name in ("applied", "distinct")]
        assert counted == [steps, steps]
        assert self.left_over() == {}
        assert self.echo.dead_letters() == []
        assert self.length(ENTER, GRADIENT) == steps


@pytest.fixture
def branch(embedded_url: str) -> Iterator[Branch]:
    for echo in make_echo_run(embedded_url):
        yield Branch(echo, BRANCH, "branch")


def test_the_sum_teaches_once_with_the_bits_of_one_process(branch: Branch) -> None:
    """A component that listens is not waited for: it does not even run."""
    branch.start(encoder(), *heads())
    branch.train(5)
    branch.check(5)
    assert branch.content("encoder") == bytes(one_process(5).dump())


@pytest.mark.parametrize("order", list(itertools.permutations(ASKED)), ids="-".join)
def test_the_order_is_that_of_the_contract(branch: Branch, order: tuple[str, ...]) -> None:
    """Whichever gradient comes first."""
    branch.start(encoder())
    root = branch.open(batch(0))
    hidden = branch.hidden(root)
    for name in order:
        gradient = ASKED[name](hidden.array)
        branch.send(hidden.reply(HIDDEN, gradient, type=GRADIENT, id=hidden.id), name)
    branch.home(root)
    branch.check(1)
    assert branch.content("encoder") == bytes(one_process(1).dump())


def test_several_replicas_of_the_owner_lose_no_gradient(branch: Branch) -> None:
    """Roots in flight together, whose gradients arrive at three replicas."""
    branch.start(encoder(), encoder(), encoder(), *heads(), logger())
    roots = [branch.open(batch(number)) for number in range(30)]
    for root in roots:
        branch.home(root)
    branch.check(30)
    until(lambda: branch.echo.counter("heard", "logger") == 30)


@pytest.mark.parametrize("point", ["receive 3", "receive 4", *(f"send {n}" for n in range(2, 6))])
def test_the_owner_is_killed_between_the_gradients(branch: Branch, point: str) -> None:
    """At each point of the second batch, and started again."""
    branch.start(*heads())
    first = branch.spawn("encoder", point)
    roots = [branch.open(batch(0)), branch.open(batch(1))]
    killed(first)
    branch.start(encoder())
    for root in roots:
        branch.home(root)
    branch.check(2)


def test_the_owner_is_killed_with_one_batch_in_flight(branch: Branch) -> None:
    """Before each of its commits in turn: the bits are those of one process."""
    branch.start(*heads())
    for number in range(4):
        process = branch.spawn("encoder", f"send {number + 1}")
        root = branch.open(batch(number))
        killed(process)
        process = branch.spawn("encoder")
        branch.home(root)
        kill(process)
    branch.start(encoder())
    branch.check(4)
    assert branch.content("encoder") == bytes(one_process(4).dump())


def test_one_that_answers_is_killed_before_its_commit(branch: Branch) -> None:
    head, *others = heads()
    branch.start(encoder(), *others)
    first = branch.spawn(head.name, "send 1")
    root = branch.open(batch(0))
    killed(first)
    # the forward pass, which gradients came, and each of them
    until(lambda: len(branch.memory("encoder")) == 2 + len(others))
    branch.start(head)
    branch.home(root)
    branch.train(1, begin=1)
    branch.check(2)
    assert branch.content("encoder") == bytes(one_process(2).dump())


@pytest.mark.parametrize("name", ["head", "penalty"])
def test_a_gradient_that_comes_twice_counts_once(branch: Branch, name: str) -> None:
    """It becomes a dead letter whose sentence says why, before the sum and after it."""
    replicas = branch.start(encoder())
    root = branch.open(batch(0))
    hidden = branch.hidden(root)

    def answer(sender: str) -> None:
        gradient = ASKED[sender](hidden.array)
        branch.send(hidden.reply(HIDDEN, gradient, type=GRADIENT, id=hidden.id), sender)

    answer(name)
    answer(name)
    [letter] = until(branch.echo.dead_letters)
    assert f"{name} has sent a gradient of {hidden.id} before".encode() in letter[b"history"]
    for sender in ASKED.keys() - {name}:
        answer(sender)
    branch.home(root)
    answer(name)
    *_, letter = until(lambda: branch.echo.dead_letters()[1:])
    assert b"was answered before" in letter[b"history"]
    assert branch.echo.counter("applied", "encoder") == 1
    assert branch.content("encoder") == bytes(one_process(1).dump())
    assert branch.memory("encoder") == {}
    branch.echo.stop(*replicas)


def test_a_gradient_of_a_component_that_was_not_asked_is_a_dead_letter(branch: Branch) -> None:
    """The root goes on without it."""
    branch.start(encoder())
    root = branch.open(batch(0))
    hidden = branch.hidden(root)
    branch.send(hidden.reply(HIDDEN, batch(7), type=GRADIENT, id=hidden.id), "logger")
    [letter] = until(branch.echo.dead_letters)
    assert b"logger sent a gradient into room hidden" in letter[b"history"]
    assert b"expects from head, critic, penalty" in letter[b"history"]
    branch.start(*heads())
    branch.home(root)
    assert branch.content("encoder") == bytes(one_process(1).dump())


def test_an_empty_gradient_counts_as_zero(branch: Branch) -> None:
    branch.start(encoder())
    root = branch.open(batch(0))
    hidden = branch.hidden(root)
    for name in ASKED:
        data = ASKED[name](hidden.array) if name == "critic" else None
        branch.send(hidden.reply(HIDDEN, data, type=GRADIENT, id=hidden.id), name)
    home = branch.home(root)
    np.testing.assert_array_equal(home.array, ASKED["critic"](hidden.array))  # w is 1


def test_a_root_that_is_given_up_leaves_no_gradient(branch: Branch) -> None:
    """A component that cannot answer gives it up; the next root is trained."""
    raising = answering("head", lambda x: x[:1] if x[0] == 0 else ASKED["head"](x))
    branch.start(encoder(), raising, *heads()[1:])
    zero = branch.open(np.zeros(len(batch(0)), "<f4"))
    until(lambda: branch.memory("encoder") == {} and branch.echo.dead_letters())
    branch.train(1)
    [letter] = branch.echo.dead_letters()  # not one more for each gradient that came too late
    assert letter[b"ROOT_ID"].decode() == zero.root_id
    assert branch.echo.counter("applied", "encoder") == 1
    assert branch.content("encoder") == bytes(one_process(1).dump())


def test_a_validation_is_answered_and_remembers_nothing(branch: Branch) -> None:
    branch.start(encoder(), *heads())
    root = branch.open(batch(0), status=ModelStatus.VALIDATE)
    branch.hidden(root)
    assert branch.memory("encoder") == {}
    branch.train(1)
    branch.check(1)


def test_a_guest_gets_one_sum(branch: Branch) -> None:
    """What a training loop of one's own sends into a room that branches comes home once."""
    branch.start(*heads())
    with Client(BRANCH, branch.echo.names.run, branch.echo.url) as client:
        guest = client.guest
        for number in range(3):
            message = Message.open(HIDDEN, batch(number))
            guest.open(message, ENTER)
            found = guest.wait(message.root_id, GRADIENT, timeout_s=LIMIT_S)
            first, second, third = (each(batch(number)) for each in ASKED.values())
            np.testing.assert_array_equal(found.array, first + second + third)


def test_a_guest_answers_alone_what_comes_out_at_its_end(branch: Branch) -> None:
    """The components of the room do not get it, so their gradients are not waited for."""
    branch.start(encoder(), *heads())
    with Client(BRANCH, branch.echo.names.run, branch.echo.url) as client:
        guest = client.guest
        message = Message.open(ENTER, batch(0))
        guest.open(message, HIDDEN)
        hidden = guest.wait(message.root_id, timeout_s=LIMIT_S)
        guest.send(hidden.reply(HIDDEN, batch(1), type=GRADIENT, id=hidden.id))
        home = guest.wait(message.root_id, GRADIENT, timeout_s=LIMIT_S)
    np.testing.assert_array_equal(home.array, batch(1))  # w is 1
    assert branch.memory("encoder") == {}
