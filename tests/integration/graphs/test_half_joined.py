"""Roots of which parts wait: dead letters put back, backups, and runs that begin again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from roomgrad import Message
from roomgrad.inspect.dead_letters import DeadLetters
from roomgrad.names import Names
from roomgrad.ops.backup.restore import restore
from roomgrad.ops.backup.save import save
from roomgrad.runtime import runs
from roomgrad.testing import wait_for
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.graphs.branch import batch
from tests.integration.graphs.join_run import JoinRun
from tests.integration.graphs.joins import EMBEDDED, FORWARD, JOINED, OWNERS, head, loss
from tests.integration.graphs.test_join import both_learned
from tests.waiting import until


@pytest.fixture
def run(embedded_url: str) -> Iterator[JoinRun]:
    for echo in make_echo_run(embedded_url):
        yield JoinRun(echo, JOINED, "joins")


@pytest.fixture
def restored(run: JoinRun, tmp_path: Path) -> Callable[[], JoinRun]:
    """Return a function that puts the run through a backup into one of another name."""

    def copy() -> JoinRun:
        path, names = tmp_path / "run.backup", Names(f"{run.echo.names.run}-again")
        save(run.echo.client, run.echo.names, path)
        with path.open("rb") as file:
            restore(run.echo.client, file, path.name, names.run, fresh=False)
        echo = EchoRun(run.echo.url, run.echo.client, names, run.echo.stack)
        return JoinRun(echo, JOINED, "joins")

    return copy


def requeue(run: JoinRun) -> None:
    """Put the only dead letter back into its stream."""
    dead_letters = DeadLetters(run.echo.client, run.echo.names, JOINED)
    [dead_letter] = dead_letters.newest_first()
    assert dead_letters.requeue(dead_letter)


def half_joined(run: JoinRun, **options: float) -> tuple[JoinRun, str]:
    """Let the left part of a root wait, and stop the joiner; return the ID of its root."""
    joiner = run.start(head(**options))
    part = run.part("left", batch(0))
    until(lambda: run.memory("head"))
    run.echo.stop(*joiner)
    return run, part.root_id


def test_a_requeued_part_of_a_root_that_was_given_up_is_dropped(run: JoinRun) -> None:
    """The other parts were deleted with the root: it would wait for them for ever."""
    run.owners()
    run.start(head())
    run.open(batch(0) * 0)
    until(run.echo.dead_letters)
    until(lambda: run.left_over() == {})
    requeue(run)
    run.out(run.open(batch(1)))  # behind it in the stream
    both_learned(run, 1)
    assert run.joined() == [[*OWNERS]]
    assert run.echo.dead_letters() == []
    assert run.left_over() == {}


def test_a_requeued_part_of_a_stranger_is_a_dead_letter_again(run: JoinRun) -> None:
    """The root goes on."""
    run.start(head())
    first = run.part("left", batch(0))
    run.part("stranger", batch(1), first)
    until(run.echo.dead_letters)
    before = run.echo.client.xinfo_stream(run.echo.names.dead())["last-generated-id"]
    requeue(run)
    until(
        lambda: run.echo.client.xinfo_stream(run.echo.names.dead())["last-generated-id"] != before
    )
    [letter] = run.echo.dead_letters()
    assert b"stranger sent a part of root" in letter[b"history"]
    run.part("right", batch(2), first)
    run.out(first)
    assert run.joined() == [[*OWNERS]]


def test_parts_that_wait_are_in_a_backup(run: JoinRun, restored: Callable[[], JoinRun]) -> None:
    """Both runs join them with the last part, each once."""
    run, root_id = half_joined(run)
    for each in (restored(), run):
        each.start(head())
        left = _part(each, root_id)
        right = each.part("right", batch(1), left)
        each.out(right)
        assert each.joined() == [[*OWNERS]]
        [answer] = each.answers(left)
        np.testing.assert_array_equal(answer.array, loss(batch(0), batch(1))[1])
        assert each.left_over() == {}
        assert each.echo.dead_letters() == []


def test_the_time_of_parts_that_wait_is_in_a_backup(
    run: JoinRun, restored: Callable[[], JoinRun]
) -> None:
    """It is over in both runs, each under its own name."""
    options = {"least": 1, "wait_s": 1000.0}
    run, _ = half_joined(run, **options)
    other = restored()
    assert run.left_over() == other.left_over() == {"head": 3}
    for each in (other, run):
        later = each.echo.names.later("head")
        each.echo.client.zadd(later, dict.fromkeys(each.echo.client.zrange(later, 0, -1), 0))
        each.start(head(**options))
        until(lambda each=each: each.joined() == [["left"]])
        until(lambda each=each: each.left_over() == {})
        assert each.echo.counter("incomplete_joins", "head") == 1
        assert each.echo.dead_letters() == []


def test_a_run_that_begins_again_has_no_parts(run: JoinRun) -> None:
    """Neither those that waited, nor their time, nor what was joined."""
    run, root_id = half_joined(run, least=1, wait_s=1000.0)
    left = _part(run, root_id)
    runs.delete(run.echo.client, run.echo.names)
    assert not [*run.echo.client.scan_iter(run.echo.names.everything())]
    run.start(head())
    run.part("right", batch(1), left)
    until(lambda: run.left_over() == {"head": 3})  # a new root
    run.part("left", batch(2), left)
    run.out(left)
    assert run.joined() == [[*OWNERS]]
    assert run.left_over() == {}


def _part(run: JoinRun, root_id: str) -> Message:
    """Return the part of a root that was sent first."""
    stream = JOINED.stream(EMBEDDED, FORWARD)
    return wait_for(run.echo.client, run.echo.names, stream, root_id=root_id)
