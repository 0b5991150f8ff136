"""The melody maker as people meet it: nobody waits for anybody."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomgrad.messages import Message
from roomgrad.testing import wait_for
from roomgrad_melody import questions
from roomgrad_melody.contract import CUSTOM, EVOLUTION, EVOLUTION_ROOM, LEARNER, NEXT, START, STOP
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.genome import random_genomes
from roomgrad_melody.learner.settings import LearnerSettings
from tests.systems.melody.play import (
    Play,
    Run,
    assert_nothing_dead,
    is_idle,
    simulated,
    write_labels,
)
from tests.systems.melody.play import play as play
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

FIRST_QUESTION_S = 10.0
ANSWERS = 6


@pytest.mark.alone
def test_the_first_question_comes_soon(play: Play) -> None:
    """Within ten seconds of nothing, with the defaults, the starts of processes included."""
    flags = {
        EVOLUTION: {"population": EvolutionSettings().population},
        LEARNER: {"nr-of-unlabeled-data": LearnerSettings().nr_of_unlabeled_data},
    }
    began = time.monotonic()
    run = play(flags)
    until(run.open_questions)
    assert time.monotonic() - began < FIRST_QUESTION_S
    assert len(run.open_questions()) == 5


# breeding


def now(run: Run) -> dict[str, Any]:
    return run.record("population", "now")


def is_in_pause(run: Run) -> bool:
    """A generation is rated, and the word that breeds the next one is on its way."""
    return bool(now(run)) and len(now(run)["fitness"]) > 0 and run.delayed == 1


def test_stop_holds_breeding_until_start(play: Play) -> None:
    """At once, in the pause after a generation too, and beyond the death of evolution."""
    run = play({EVOLUTION: {"pause-s": 3.0}})
    until(lambda: is_in_pause(run))
    generation = run.generation
    run.command(STOP)
    until(lambda: not now(run)["running"])
    until(lambda: run.delayed == 0 and run.leftovers() == {})  # the pause is over
    assert run.generation == generation
    run.kill(EVOLUTION)
    until(lambda: run.launcher.restarts == 1)
    run.command(NEXT, GENERATION=np.array(generation))
    until(lambda: run.leftovers() == {})  # it has come to life, and heard that
    assert (run.generation, now(run)["running"], run.delayed) == (generation, False, 0)
    run.command(START)
    until(lambda: run.generation > generation)
    until(lambda: is_in_pause(run))
    assert_nothing_dead(run)


def test_breeding_goes_on_while_evalnet_is_trained(play: Play, tmp_path: Path) -> None:
    """Three generations and more within one training run."""
    write_labels(tmp_path / "labels.csv", 100)
    flags = {
        EVOLUTION: {"pause-s": 0.05},
        LEARNER: {"labels-file": str(tmp_path / "labels.csv"), "epochs": 400},
    }
    run = play(flags)
    seen: dict[int, set[int]] = {}

    def bred_meanwhile() -> bool:
        learning, population = run.together(("learning", "now"), ("population", "now"))
        if learning and population and learning["chain"]:
            chain = learning["chain"]["number"]
            seen.setdefault(chain, set()).add(population["generation"])
        return any(len(generations) > 3 for generations in seen.values())

    until(bred_meanwhile)


def test_what_others_ask_evalnet_is_nothing_to_evolution(play: Play) -> None:
    """Neither an answer of evalnet to somebody's melodies, nor one that somebody makes up."""
    run = play({EVOLUTION: {"pause-s": 0.05}})
    until(lambda: run.generation >= 1)
    run.command(STOP)
    until(lambda: not now(run)["running"] and run.leftovers() == {} and run.delayed == 0)
    before = now(run)
    genomes = random_genomes(99, 0, len(before["genomes"]))
    stream = run.client, run.names, run.contract.stream(EVOLUTION_ROOM, CUSTOM)
    with run.reach() as client:
        question = Message.open(EVOLUTION_ROOM, type=CUSTOM, GENOMES=genomes)
        entry = client.send(question)
        answer = wait_for(*stream, root_id=question.root_id, after=entry)
        assert set(answer.fields) == {"GENOMES", "FITNESS", "PROBS", "SCORES", "VERSION"}
        np.testing.assert_array_equal(answer.fields["GENOMES"], genomes)
        made_up = Message.open(
            EVOLUTION_ROOM,
            type=CUSTOM,
            GENOMES=genomes,
            FITNESS=np.full(len(genomes), 5.0),
            GENERATION=np.array(before["generation"]),
        )
        client.send(made_up)
    until(lambda: run.leftovers() == {})
    after = now(run)
    assert after.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    run.command(START)
    until(lambda: run.generation > before["generation"])
    assert_nothing_dead(run)


# questions


class Watch:
    """Looks at learner and questions all the time, each time at one moment."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.looks: list[dict[str, dict[str, Any]]] = []
        """The questions at the moments in which the learner had nothing to do."""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.002):
            learning, found = self._run.learning_and_questions()
            if is_idle(learning):
                self.looks.append(found)


def test_questions_stay_open_and_follow_the_newest_model(play: Play) -> None:
    """Five are always open, and what the model guesses of them is always of one model."""
    run = play({EVOLUTION: {"pause-s": 0.2}, LEARNER: {"epochs": 3, "again": 0.0}})
    until(run.open_questions)
    versions = []

    def answered(number: int) -> dict[str, dict[str, Any]] | None:
        """The free questions of the moment in which so many answers are learned."""
        learning, found = run.learning_and_questions()
        if learning["answered"] < number or not is_idle(learning):
            return None
        versions.append(learning["version"])
        return {name: each for name, each in found.items() if not each["rater"]}

    with run.reach() as client, Watch(run) as watch:
        for number in range(1, ANSWERS + 1):
            [question] = questions.lease(client, "anna", 1, 60.0)
            until(lambda: len(run.free_questions()) >= 5)  # beside the one in hand
            [rating] = simulated([question.melody])
            questions.answer(client, "anna", question.melody, rating, question.root)
            free = until(lambda so_far=number: answered(so_far))
            assert sorted(each["rank"] for each in free.values()) == [0.0, 1.0, 2.0, 3.0, 4.0]
            assert {each["version"] for each in free.values()} == {versions[-1]}
    assert len(set(versions)) == ANSWERS
    assert len(watch.looks) > 50
    for look in watch.looks:
        assert len(look) >= 5
        free = [each for each in look.values() if not each["rater"]]
        assert len({each["version"] for each in free}) == 1
    assert_nothing_dead(run)
