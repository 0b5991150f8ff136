"""Two replicas of a joiner at once: a root is joined or given up, and never both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from roomgrad import Component, Context, Message, Parts, RuntimeSettings, System, join
from roomgrad.commit import Commit
from roomgrad.errors import SchemaError
from roomgrad.ops.give_up import give_up
from roomgrad.runtime.replica import Replica
from tests.integration.conftest import make_echo_run
from tests.integration.graphs.branch import batch
from tests.integration.graphs.join_run import JoinRun
from tests.integration.graphs.joins import (
    EMBEDDED,
    FORWARD,
    GRADIENT,
    JOINED,
    OUT,
    OWNERS,
    head,
    owner,
)
from tests.waiting import until

WAITS = {"least": 1, "wait_s": 1000.0}


@pytest.fixture
def run(embedded_url: str) -> Iterator[JoinRun]:
    for echo in make_echo_run(embedded_url):
        yield JoinRun(echo, JOINED, "joins")


def before(replica: Replica, at: str, name: str, write: str, happens: Callable[[], Any]) -> None:
    """Let something happen once before a replica sends a commit with a write."""
    owner = getattr(replica._loop, at)
    function, left = getattr(owner, name), [happens]

    def called(commit: Commit, *rest: Any) -> Any:
        names = [*commit.keys]
        each = [(one[0].decode(), names[int(one[1]) - 1]) for one in commit.operations]
        writes = [f"{command} {key}" for command, key in each]
        if left and write in writes:
            left.pop()()
        return function(commit, *rest)

    setattr(owner, name, called)


def dead(run: JoinRun) -> str:
    """Return the write of a dead letter."""
    return f"XADD {run.echo.names.dead()}"


def end_time(run: JoinRun) -> None:
    """Let the time of all parts that wait be over."""
    later = run.echo.names.later("head")
    run.echo.client.zadd(later, dict.fromkeys(run.echo.client.zrange(later, 0, -1), 0))


def test_the_last_part_comes_while_the_others_expire(run: JoinRun) -> None:
    """Then the root is joined, and not given up."""
    [first] = run.start(head())
    part = run.part("left", batch(0))
    until(lambda: run.memory("head"))

    def last_part() -> None:
        run.start(head())
        run.part("right", batch(1), part)
        run.out(part)

    before(first, "_committer", "commit", dead(run), last_part)
    end_time(run)
    until(run.joined)
    quiet(run)
    assert run.joined() == [[*OWNERS]]
    assert run.echo.dead_letters() == []
    assert run.left_over() == {}


def test_the_time_is_over_while_a_joiner_fails(run: JoinRun) -> None:
    """The part that it failed on is late, and its root joined without it."""

    @join(EMBEDDED, FORWARD, replies=[(EMBEDDED, GRADIENT), (OUT, FORWARD)], parts=OWNERS, **WAITS)
    def forward(parts: Parts, context: Context) -> list[Message]:
        if len(parts) > 1:
            raise SchemaError("only one, please")
        context.append("joined", names=list(parts))
        return [parts.reply(OUT, batch(3)), *parts.gradients({})]

    component = Component("head", JOINED, RuntimeSettings, [forward], logs=["joined"])
    [first] = run.start(component)
    left = run.part("left", batch(0))
    until(lambda: run.memory("head"))

    def over() -> None:
        run.start(component)
        end_time(run)
        run.out(left)

    before(first, "_committer", "commit", dead(run), over)
    right = run.part("right", batch(1), left)
    [answer] = until(lambda: run.answers(right))
    assert answer.data is None
    quiet(run)
    assert run.joined() == [["left"]]
    assert run.echo.counter("late_parts", "head") == 1
    assert run.echo.dead_letters() == []
    assert run.left_over() == {}


@pytest.mark.parametrize("waits", [WAITS, {}], ids=["least", "all"])
def test_a_part_comes_while_its_root_is_given_up(run: JoinRun, waits: dict[str, Any]) -> None:
    """It is not joined when its time is over, and nothing is left of it."""
    [first] = run.start(head(**waits))
    root = Message.open(EMBEDDED, batch(0))

    def part() -> None:
        run.start(head(**waits))
        run.part("left", batch(0), root)
        until(lambda: run.memory("head"))

    ended = run.echo.names.ended("head")
    before(first, "_connections", "send", f"ZADD {ended}", part)
    give_up(run.echo.client, run.echo.names, JOINED, [root.root_id])
    until(lambda: run.echo.client.exists(ended))
    end_time(run)
    until(lambda: run.left_over() == {})
    quiet(run)
    assert run.joined() == []
    assert run.echo.dead_letters() == []


def test_the_sender_of_a_part_is_told_again_that_its_root_is_given_up(run: JoinRun) -> None:
    """It had handled its own notice before the message that the part is of."""
    run.start(head(), owner("left"))
    root = Message.open(EMBEDDED, batch(0))
    told = System("told", (), ("left",))
    give_up(run.echo.client, run.echo.names, told, [root.root_id])
    inbox = run.echo.names.stream("@left", "LOG/ERROR")
    until(lambda: _handled(run, inbox, "left") == 1)
    late = replace(Message.open("enter", batch(0)), root_id=root.root_id)
    run.send(late)
    until(lambda: run.left_over() == {"head": 3, "left": 1})
    give_up(run.echo.client, run.echo.names, System("told", (), ("head",)), [root.root_id])
    until(lambda: run.left_over() == {})


def _handled(run: JoinRun, key: str, group: str) -> int:
    """Return how many entries of a stream a group has handled."""
    [info] = [g for g in run.echo.client.xinfo_groups(key) if g["name"] == group.encode()]
    return int(info["entries-read"] or 0) - int(info["pending"])


def quiet(run: JoinRun) -> None:
    """Wait until each message is handled."""

    def owed() -> list[Any]:
        keys = [run.echo.names.stream(*each.key) for each in JOINED.streams if each.consumers]
        keys.append(run.echo.names.stream("@head", "LOG/ERROR"))
        groups = [group for key in keys for group in run.echo.client.xinfo_groups(key)]
        mine = [group for group in groups if group["name"] == b"head"]
        return [group for group in mine if group["pending"] or group["lag"]]

    until(lambda: not owed())
