"""A guest opens roots and gets their answers; whatever happens to it, nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from roomgrad.errors import NoAnswer, ServerError, SettingsError
from roomgrad.messages import Message
from roomgrad.names import Names
from roomgrad.redis.client import Client
from roomgrad.redis.guest_answers import GuestAnswers
from roomgrad.redis.guest_client import GuestClient
from roomgrad.redis.guest_messages import Root
from roomgrad.rooms import ModelStatus
from roomgrad.runtime.replica import Replica
from tests.integration.conftest import EchoRun
from tests.integration.guests.squares import (
    FORWARD,
    GRADIENT,
    SQUARES,
    A,
    B,
    C,
    component,
    numbers,
    opened,
)
from tests.waiting import LIMIT_S, until

QUICK_LEASE_S = 0.6


@pytest.fixture
def replicas(echo: EchoRun) -> dict[str, Replica]:
    """Start both components."""
    return {name: echo.start(component(name), max_deliveries=3) for name in SQUARES.components}


@pytest.fixture
def line(echo: EchoRun, replicas: dict[str, Replica]) -> EchoRun:
    """Return a run in which both components live."""
    assert replicas
    return echo


@pytest.fixture
def guest(line: EchoRun) -> Iterator[GuestClient]:
    with Client(SQUARES, line.names.run, line.url) as client, GuestClient(client) as made:
        yield made


def gradient(answer: Message, *values: float) -> Message:
    return answer.reply(C, numbers(*values), type=GRADIENT, id=answer.id)


def round_trip(guest: GuestClient, *values: float) -> Message:
    """Send numbers, and ones as the gradient of their fourth powers; return what comes home."""
    message = opened(*values)
    guest.open(message, C)
    answer = guest.wait(message.root_id, timeout_s=LIMIT_S)
    assert answer.array.tolist() == [value**4 for value in values]
    guest.send(gradient(answer, *[1.0] * len(values)))
    return guest.wait(message.root_id, GRADIENT, timeout_s=LIMIT_S)


def memories(run: EchoRun) -> int:
    """Return how many records the components remember."""
    return sum(int(run.client.hlen(run.names.memory(name))) for name in SQUARES.components)


def open_and_leave(run: EchoRun, message: Message) -> None:
    """Open a root as a guest whose lease ends, as that of a process that hangs."""
    with Client(SQUARES, run.names.run, run.url) as client:
        guest = GuestClient(client, "short", lease_s=QUICK_LEASE_S)
        guest.open(message, C)
        guest._closed.set()
        until(lambda: not left_of(run, "short"))


def left_of(run: EchoRun, name: str) -> list[bytes]:
    """Return the keys of a guest that exist."""
    pattern = run.names.guest(name) + "*"
    return [*run.client.scan_iter(pattern, count=1000), *run.client.hkeys(run.names.guests())]


def assert_nothing_is_left(run: EchoRun, name: str) -> None:
    until(lambda: not left_of(run, name))
    until(lambda: memories(run) == 0)
    assert run.dead_letters() == []


def test_its_answers_and_gradients_come_to_its_own_stream(
    line: EchoRun, guest: GuestClient
) -> None:
    home = round_trip(guest, 1.0, 2.0)
    assert home.array.tolist() == [4.0, 32.0]
    assert line.counter("learned", "first") == line.counter("learned", "second") == 1
    for room, type_ in ((C, "DATA/FORWARD"), (A, "DATA/GRADIENT")):
        assert line.client.xlen(line.names.stream(str(room), type_)) == 0
    assert memories(line) == 0


def test_a_thousand_roots_and_many_threads(line: EchoRun, guest: GuestClient) -> None:
    roots = [opened(float(n)) for n in range(1000)]
    for root in roots:
        guest.open(root, C)
    found: dict[str, float] = {}

    def wait(some: list[Message]) -> None:
        for root in some:
            answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
            guest.send(gradient(answer, 1.0))
            home = guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S)
            found[root.root_id] = float(home.array[0])

    threads = [threading.Thread(target=wait, args=(roots[n::4],)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [found[root.root_id] for root in roots] == [4.0 * n**3 for n in range(1000)]
    guest.close()
    assert_nothing_is_left(line, guest.name)


def test_several_guests_and_a_component_train_in_one_run(line: EchoRun) -> None:
    with (
        Client(SQUARES, line.names.run, line.url) as client,
        GuestClient(client, "ada") as ada,
        GuestClient(client, "bob") as bob,
    ):
        one, other = opened(1.0), opened(2.0)
        ada.open(one, C)
        bob.open(other, C)
        client.send(foreign := opened(3.0))
        assert bob.wait(other.root_id, timeout_s=LIMIT_S).array.tolist() == [16.0]
        assert ada.wait(one.root_id, timeout_s=LIMIT_S).array.tolist() == [1.0]
        key = line.names.stream("c", "DATA/FORWARD")
        until(lambda: line.client.xlen(key) == 1)
        assert line.client.xrange(key)[0][1][b"ROOT_ID"].decode() == foreign.root_id


def test_a_guest_that_is_killed_leaves_nothing(line: EchoRun) -> None:
    """It has roots that wait for an answer, for its gradient, and for theirs."""
    words = [sys.executable, "-m", "tests.integration.guests.squares", "guest"]
    process = subprocess.Popen(
        [*words, line.names.run, line.url], stdout=subprocess.PIPE, text=True
    )
    line.stack.callback(process.communicate)
    line.stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    assert memories(line) > 0
    process.kill()
    assert_nothing_is_left(line, "doomed")


def test_what_comes_after_a_guest_is_gone_ends_its_root(
    line: EchoRun, replicas: dict[str, Replica]
) -> None:
    """A component that is busy, or away, meets the guest's message later."""
    line.stop(replicas["second"])
    with Client(SQUARES, line.names.run, line.url) as client:
        guest = GuestClient(client, "short", lease_s=QUICK_LEASE_S)
        guest.open(opened(2.0), C)
        until(lambda: memories(line) == 1)
        guest._closed.set()  # it no longer extends its lease, like a process that hangs
        until(lambda: not left_of(line, "short"))
    until(lambda: memories(line) == 0)
    line.start(component("second"))
    until(lambda: line.counter("forwards", "second") == 1)
    assert_nothing_is_left(line, "short")


@pytest.mark.parametrize("away", ["first", "second"])
def test_a_component_that_was_away_forgets_what_was_given_up(
    line: EchoRun, guest: GuestClient, replicas: dict[str, Replica], away: str
) -> None:
    """It handles the notice before the message, whose answer nothing waits for."""
    line.stop(replicas[away])
    guest.open(root := opened(2.0), C)
    with pytest.raises(NoAnswer, match=r"within 0\.2 s"):
        guest.wait(root.root_id, timeout_s=0.2)
    until(lambda: memories(line) == 0)
    line.start(component(away))
    until(lambda: line.counter("forwards", "second") == 1)
    until(lambda: memories(line) == 0)
    assert round_trip(guest, 1.0).array.tolist() == [4.0]
    assert line.dead_letters() == []


def test_an_answer_without_a_gradient_does_not_bring_back_a_guest(
    line: EchoRun, replicas: dict[str, Replica]
) -> None:
    line.stop(replicas["second"])
    open_and_leave(line, opened(2.0, status=ModelStatus.VALIDATE))
    line.start(component("second"))
    until(lambda: line.counter("forwards", "second") == 1)
    assert_nothing_is_left(line, "short")


def test_a_gradient_of_a_guest_that_is_gone_is_no_dead_letter(line: EchoRun) -> None:
    with Client(SQUARES, line.names.run, line.url) as client:
        guest = GuestClient(client, "short", lease_s=QUICK_LEASE_S)
        guest.open(root := opened(2.0), C)
        answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
        guest._closed.set()
        until(lambda: not left_of(line, "short"))
        until(lambda: memories(line) == 0)
        client.send(gradient(answer, 1.0))  # it was under way
    until(lambda: line.pending(SQUARES.stream(C, GRADIENT), "second") == 0)
    until(lambda: line.counter("differentiated", "second") == 0)
    assert_nothing_is_left(line, "short")


def test_a_gradient_of_a_root_that_was_given_up_is_no_dead_letter(
    line: EchoRun, guest: GuestClient
) -> None:
    guest.open(root := opened(2.0), C)
    answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
    guest.give_up([root.root_id])
    until(lambda: memories(line) == 0)
    guest._client.apply(lambda commit: commit.send(*guest._client.encode(gradient(answer, 1.0))))
    done = line.names.done("second", *SQUARES.stream(C, GRADIENT).key)
    until(lambda: line.client.zcard(done) == 1)
    assert line.dead_letters() == []


def test_a_message_of_a_guest_that_is_gone_is_no_dead_letter(
    line: EchoRun, replicas: dict[str, Replica]
) -> None:
    line.stop(replicas["first"])
    open_and_leave(line, opened(-1.0))
    line.start(component("first"), max_deliveries=1)
    done = line.names.done("first", *SQUARES.stream(A, FORWARD).key)
    until(lambda: line.client.zcard(done) == 1)
    assert_nothing_is_left(line, "short")


def test_a_root_that_a_component_gives_up_comes_home_with_the_reason(
    line: EchoRun, guest: GuestClient
) -> None:
    guest.open(root := opened(-1.0), C)
    with pytest.raises(NoAnswer, match="first gave up a message: ValueError: negative numbers"):
        guest.wait(root.root_id, timeout_s=LIMIT_S)
    assert len(line.dead_letters()) == 1  # of a guest that lives, for a person to look at
    assert round_trip(guest, 1.0).array.tolist() == [4.0]


@pytest.mark.parametrize("why", ["given up by a component", "not readable"])
def test_what_is_lost_is_forgotten_while_the_guest_lives(
    line: EchoRun, guest: GuestClient, why: str
) -> None:
    guest.open(root := opened(-1.0 if why == "given up by a component" else 2.0), C)
    if why == "not readable":
        until(lambda: memories(line) == 2)
        entry: Any = {"ID": "1", "ROOT_ID": root.root_id, "m": "no JSON"}
        line.client.xadd(line.names.guest(guest.name), entry)  # it is read with the good answer
    with pytest.raises(NoAnswer):
        guest.wait(root.root_id, timeout_s=LIMIT_S)
    assert round_trip(guest, 1.0).array.tolist() == [4.0]
    guest.flush()
    until(lambda: memories(line) == 0)
    assert line.client.hlen(line.names.guest_roots(guest.name)) == 0


def test_what_could_not_be_given_up_is_given_up_later(line: EchoRun, guest: GuestClient) -> None:
    guest.open(root := opened(2.0), C)
    guest.wait(root.root_id, timeout_s=LIMIT_S)
    roots = line.names.guest_roots(guest.name)
    line.client.rename(roots, roots + ":aside")
    line.client.set(roots, "no hash")
    with pytest.raises(ServerError, match="expected a hash"):
        guest.give_up([root.root_id])
    line.client.rename(roots + ":aside", roots)
    guest.flush()
    until(lambda: memories(line) == 0)
    assert line.client.hlen(roots) == 0


def test_an_answer_that_does_not_come_says_where_it_is(echo: EchoRun) -> None:
    echo.start(component("first"))
    with Client(SQUARES, echo.names.run, echo.url) as client, GuestClient(client) as guest:
        guest.open(root := opened(1.0), C)
        with pytest.raises(NoAnswer, match=r"within 0.5 s: .*second"):
            guest.wait(root.root_id, timeout_s=0.5)
        until(lambda: memories(echo) == 0)  # it was given up


@pytest.mark.parametrize("status", [ModelStatus.VALIDATE, ModelStatus.DIFFERENTIATE])
def test_nobody_learns(line: EchoRun, guest: GuestClient, status: ModelStatus) -> None:
    guest.open(root := opened(3.0, status=status), C)
    answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
    assert answer.array.tolist() == [81.0]
    if status is ModelStatus.DIFFERENTIATE:
        guest.send(gradient(answer, 1.0))
        home = guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S)
        assert home.array.tolist() == [108.0]
        assert line.counter("differentiated", "first") == 1
    assert line.counter("learned", "first") == 0
    assert memories(line) == 0


def test_names(line: EchoRun) -> None:
    with Client(SQUARES, line.names.run, line.url) as client, GuestClient(client, "ada"):
        with pytest.raises(SettingsError, match="guest 'ada' is in use"):
            GuestClient(client, "ada")
        with pytest.raises(SettingsError, match="expected 1 to 128 letters"):
            GuestClient(client, "a da")


def test_a_guest_whose_lease_ended_joins_again_with_its_next_root(line: EchoRun) -> None:
    """Like a laptop that was asleep: the roots of before are given up, and nothing else."""
    with Client(SQUARES, line.names.run, line.url) as client:
        guest = GuestClient(client, "slow")
        roots = [opened(2.0), opened(3.0)]
        for each in roots:
            guest.open(each, C)
        answer = guest.wait(roots[0].root_id, timeout_s=LIMIT_S)
        line.client.delete(line.names.guest("slow"))  # as the server does after a long pause
        with pytest.raises(NoAnswer, match="the lease of guest slow ended"):
            guest.send(gradient(answer, 1.0))
        assert round_trip(guest, 2.0).array.tolist() == [32.0]
        with pytest.raises(NoAnswer, match="the lease of guest slow ended"):
            guest.wait(roots[1].root_id, timeout_s=LIMIT_S)
        guest.close()
    assert_nothing_is_left(line, "slow")


def test_a_wait_ends_with_the_lease(line: EchoRun) -> None:
    with Client(SQUARES, line.names.run, line.url) as client:
        guest = GuestClient(client, "slow", lease_s=QUICK_LEASE_S)
        guest.open(root := opened(2.0), B)
        guest.wait(root.root_id, timeout_s=LIMIT_S)
        line.client.delete(line.names.guest("slow"))
        with pytest.raises(NoAnswer, match="the lease of guest slow ended"):
            guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S)
        guest.close()
    assert_nothing_is_left(line, "slow")


def test_it_may_leave_in_the_middle(line: EchoRun, guest: GuestClient) -> None:
    """Any room of the line may be the end: the rest never hears of the root."""
    guest.open(root := opened(3.0), B)
    answer = guest.wait(root.root_id, timeout_s=LIMIT_S)
    assert answer.array.tolist() == [9.0]
    guest.send(answer.reply(B, numbers(1.0), type=GRADIENT, id=answer.id))
    assert guest.wait(root.root_id, GRADIENT, timeout_s=LIMIT_S).array.tolist() == [6.0]
    assert line.counter("forwards", "second") == 0


def test_too_many_roots_are_refused(line: EchoRun, guest: GuestClient) -> None:
    guest._open.update({str(n): Root("a", "c", 8, True) for n in range(10_000)})
    with pytest.raises(ServerError, match="has 10000 open roots, expected fewer than 10000"):
        guest.open(opened(1.0), C)
    guest._open.clear()
    assert np.isfinite(round_trip(guest, 1.0).array).all()


def test_its_names() -> None:
    names = Names("r")
    assert names.guest("g") == "{r}:@guest~g"
    assert names.guest_roots("g") == "{r}:@guest~g:roots"


def test_what_has_arrived_is_not_waited_for(echo: EchoRun) -> None:
    """Another thread may read an answer between a look for it and the wait."""
    key = echo.names.guest("ada")
    answers = GuestAnswers(
        echo.client, key, lambda entry, _: (entry, "lost"), lambda _: True, lambda _: ()
    )
    seen = answers.count
    echo.client.xadd(key, {"m": "{}"})
    answers.read(LIMIT_S, seen)
    began = time.monotonic()
    answers.read(LIMIT_S, seen)
    assert time.monotonic() - began < LIMIT_S / 2
