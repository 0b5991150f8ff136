"""kill -9 of anything, at any time: the run ends with the same bits, and no answer is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from roomgrad.clock import server_time
from roomgrad.errors import NoServer, Rejected, ServerError
from roomgrad.messages import new_id
from roomgrad.redis.client import Client
from roomgrad_melody import questions
from roomgrad_melody.contract import EVALNET, EVOLUTION, LABELLING, LEARNER, STOP
from roomgrad_melody.questions import Given, Question
from tests.systems.melody import reference
from tests.systems.melody.play import (
    AWAY,
    RATER,
    ROOT,
    Play,
    Run,
    assert_batches_exact,
    assert_exact,
    assert_labels_as_answered,
    lockstep,
    simulated,
    write_labels,
)
from tests.systems.melody.play import play as play
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)

T = TypeVar("T")

FILE, ROUNDS, GENERATIONS = 35, 5, 8
MESSAGES = 250  # that a run of this size sends at least
AFTER, MEANWHILE = "the server after the answer", "the server meanwhile"


def start(play: Play, folder: Path, seed: int, replicas: dict[str, int]) -> Run:
    """A run in lock-step with labels from a file, and five rounds of questions."""
    write_labels(folder / "labels.csv", FILE)
    more = {"labels-file": str(folder / "labels.csv"), "max-labels": FILE + ROUNDS * 5, "epochs": 4}
    return play(lockstep(seed, GENERATIONS, **more), {RATER: 1, **replicas})


def assert_undisturbed(run: Run, folder: Path) -> None:
    """The run ends as one in which nobody died; each melody was rated once."""
    assert_exact(run)
    assert_labels_as_answered(run)
    labels = write_labels(folder / "again.csv", FILE)
    alone = reference.play(run.flags, labels)
    revisions = [(each["melody"], each["rating"]) for each in run.revisions()]
    assert sorted(revisions) == sorted(alone.labels.items())
    assert run.result() == alone.result


@pytest.mark.parametrize(
    ("seed", "times"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)], ids=["once", "twice"]
)
def test_killed_components_cost_nothing_but_time(
    play: Play, tmp_path: Path, seed: int, times: int
) -> None:
    """Each dies at random moments, in random order; the rater and the page too."""
    run = start(play, tmp_path, seed, {LABELLING: 1})
    order = [LEARNER, EVALNET, EVOLUTION, RATER, LABELLING] * times
    dice = random.Random(seed)
    dice.shuffle(order)
    for at, component in zip(
        sorted(dice.sample(range(5, MESSAGES), len(order))), order, strict=True
    ):
        run.wait_messages(at)
        run.kill(component)
    assert_undisturbed(run, tmp_path)
    until(lambda: run.launcher.restarts == len(order))


def test_a_killed_server_costs_nothing_but_time(play: Play, tmp_path: Path) -> None:
    """Twice; the second time it falls back by some fifty messages, and work is redone."""
    run = start(play, tmp_path, 4, {})
    run.wait_messages(60)
    run.kill_server()
    run.wait_messages(130)
    run.copy_disk(tmp_path / "disk")
    run.wait_messages(180)
    run.kill_server(tmp_path / "disk")
    assert_undisturbed(run, tmp_path)


@pytest.mark.slow
def test_replicas_take_over_from_the_killed(play: Play, tmp_path: Path) -> None:
    """Nobody starts them again at once: the other replica goes on with the message in hand."""
    run = start(play, tmp_path, 5, {EVALNET: 2, LEARNER: 2, EVOLUTION: 2})
    for at, component in ((50, EVOLUTION), (100, LEARNER), (150, EVALNET), (200, LEARNER)):
        run.wait_messages(at)
        run.kill(component)
    assert_undisturbed(run, tmp_path)


# people


def settle(run: Run) -> None:
    """Stops breeding, and waits until nobody has anything to do any more."""
    run.command(STOP)
    until(lambda: run.is_idle and run.leftovers() == {})


class Person:
    """Somebody at a program of their own, who tries again when the server is away."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.acknowledged: dict[str, tuple[str, int]] = {}

    def take(self) -> Question:
        """A question in hand, as soon as there is one."""
        found = until(lambda: self._reached(self._lease))
        return found[0]

    def rate(self, question: Question) -> None:
        """Answers, as often as it takes to be told that it stands, or that it is refused."""
        id, [rating] = new_id(), simulated([question.melody])

        def send(client: Client) -> Given:
            about = (question.melody, rating, question.root)
            return questions.answer(client, self.name, *about, id=id)

        try:
            until(lambda: self._reached(send))
        except Rejected:  # a server that fell back may have forgotten that it was asked
            return
        self.acknowledged[id] = (question.melody, rating)

    def _lease(self, client: Client) -> list[Question]:
        return questions.lease(client, self.name, 1, 30.0)

    def _reached(self, work: Callable[[Client], T]) -> T | None:
        self.run.launcher.check()
        try:
            with self.run.reach() as client:
                return work(client)
        except (*AWAY, NoServer, ServerError):
            return None


@pytest.mark.parametrize(
    ("seed", "times"), [(1, 1), pytest.param(2, 2, marks=pytest.mark.slow)], ids=["once", "twice"]
)
def test_no_acknowledged_answer_is_lost_or_doubled(play: Play, seed: int, times: int) -> None:
    """While a person answers, everything is killed in turn; each answer stands once."""
    flags = {LEARNER: {"epochs": 2, "seed": seed, "again": 0.2}, EVOLUTION: {"pause-s": 0.1}}
    run = play(flags)
    person = Person(run, "anna")
    dice = random.Random(seed)
    victims = [LEARNER, EVALNET, EVOLUTION, AFTER, MEANWHILE] * times
    dice.shuffle(victims)
    before = 0
    for victim in victims:
        question = person.take()
        run.wait_messages(before + dice.randrange(40))
        if victim not in (AFTER, MEANWHILE):
            run.kill(victim)
        with ThreadPoolExecutor() as beside:
            answered = beside.submit(person.rate, question)
            if victim == MEANWHILE:
                run.kill_server()
            answered.result()
        if victim == AFTER:
            run.kill_server()
        before = max(0, run.messages)
    settle(run)
    revisions = run.revisions()
    assert len(person.acknowledged) >= len(victims) - times
    assert sorted(each["answer"] for each in revisions) == sorted(person.acknowledged)
    stored = {each["answer"]: (each["melody"], each["rating"]) for each in revisions}
    assert stored == person.acknowledged
    assert {each["rater"] for each in revisions} == {"anna"}
    assert_labels_as_answered(run)
    assert_batches_exact(run)
    trained = run.record("learning", "training")
    assert len(trained["ratings"]) == len(run.ratings())


def test_an_answer_stands_only_when_the_disk_has_it(play: Play, monkeypatch: Any) -> None:
    """A server that leaves its file to the operating system acknowledges nothing."""
    run = play({EVOLUTION: {"pause-s": 0.1}})
    until(lambda: len(run.open_questions()) >= 5)
    monkeypatch.setattr("roomgrad.redis.disk.DURABLE_S", 0.3)
    run.client.config_set("appendfsync", "no")
    with run.reach() as client:
        [question] = questions.lease(client, "anna", 1, 30.0)
        about, id = (question.melody, 3, question.root), new_id()
        with pytest.raises(ServerError, match="disk"):
            questions.answer(client, "anna", *about, id=id)
        run.client.config_set("appendfsync", "always")
        questions.answer(client, "anna", *about, id=id)
    settle(run)
    assert run.ratings() == {question.melody: 3}
    assert [each["answer"] for each in run.revisions()] == [id]


HOLD = """
import sys, time
from roomgrad.redis.client import Client
from roomgrad_melody.contract import MELODY
from roomgrad_melody.questions import lease
with Client(MELODY) as client:
    taken = lease(client, "gone", 5, 1.0)
    print(*[each.melody for each in taken], flush=True)
    sys.stdin.read()
"""


def test_the_questions_of_a_killed_rater_come_back(play: Play) -> None:
    """Somebody else gets them when their lease is over, and not before."""
    run = play()
    until(lambda: len(run.open_questions()) >= 5)
    environ = {**os.environ, "REDIS_URL": run.server.url}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as gone:
        assert gone.stdout is not None
        held = gone.stdout.readline().split()
        gone.kill()
    assert len(held) == 5
    ends = max(record["until"] for name, record in run.records("questions").items() if name in held)
    back: set[str] = set()
    with run.reach() as client:

        def all_are_back() -> bool:
            now = server_time(client.redis)
            taken = {each.melody for each in questions.lease(client, "bob", 100, 60.0)}
            fresh = taken & set(held) - back
            back.update(fresh)
            assert not fresh or server_time(client.redis) > ends
            assert back == set(held) or now < ends
            return back == set(held)

        until(all_are_back)
