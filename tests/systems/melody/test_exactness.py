"""What comes out of the rooms is what the same functions make in one process, bit for bit."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import pytest

from roomgrad_melody.contract import EVALNET, EVOLUTION, LEARNER
from roomgrad_melody.learner.settings import LearnerSettings
from tests.systems.melody import reference
from tests.systems.melody.play import (
    RATER,
    Play,
    assert_exact,
    assert_labels_as_answered,
    lockstep,
    simulated,
    wait_end,
    write_labels,
)
from tests.systems.melody.play import play as play

pytestmark = pytest.mark.timeout(180)

FILE, ROUNDS, GENERATIONS = 35, 2, 4
DEFAULTS = LearnerSettings()


@pytest.mark.parametrize(
    "replicas",
    [{}, {EVALNET: 2, LEARNER: 2, EVOLUTION: 2}],
    ids=["alone", "replicas"],
)
def test_a_run_in_lockstep_equals_one_process(
    play: Play, tmp_path: Path, replicas: dict[str, int]
) -> None:
    """Weights, optimizer, population and labels: from a file, and two rounds of answers."""
    labels = write_labels(tmp_path / "labels.csv", FILE)
    sizes = [FILE + DEFAULTS.active_labels * number for number in range(ROUNDS + 1)]
    more = {"labels-file": str(tmp_path / "labels.csv"), "max-labels": sizes[-1]}
    run = play(lockstep(3, GENERATIONS, **more), {RATER: 1, **replicas})
    assert_exact(run)
    assert_labels_as_answered(run)
    alone = reference.play(run.flags, labels)
    # Each training run goes ten times through all labels, twenty at a time.
    losses = run.records("losses")
    chains = [[] for _ in sizes]
    for step in range(len(losses)):
        chains[losses[str(step)]["chain"]].append(losses[str(step)]["loss"])
    expected = [ceil(n / DEFAULTS.batch_size) * DEFAULTS.epochs for n in sizes]
    assert [len(chain) for chain in chains] == expected
    assert chains == alone.chains
    assert run.client.zcard(run.names.ledger(EVALNET)) == sum(expected)
    generations = run.records("generations")
    assert [generations[str(n)]["mean"] for n in range(GENERATIONS + 1)] == alone.means
    assert run.ratings() == alone.labels
    assert run.result() == alone.result


@pytest.mark.slow
def test_a_run_repeats_from_its_seed(play: Play) -> None:
    """Nobody attends: the same seed ends in the same bits, another one in others."""
    runs = [play(lockstep(seed, 3, epochs=3), {RATER: 1}) for seed in (1, 1, 2)]
    for run in runs:
        assert_exact(run)
    one, same, other = (run.result() for run in runs)
    assert one == same
    assert one.weights != other.weights
    assert one.optimizer != other.optimizer
    assert one.population != other.population
    assert one.labels != other.labels


def test_who_is_asked_again_answers_and_a_file_is_not_asked(play: Play, tmp_path: Path) -> None:
    """In lock-step a question that nobody may answer would be the end of the run."""
    labels = write_labels(tmp_path / "labels.csv", 10)
    more = {"labels-file": str(tmp_path / "labels.csv"), "again": 0.5, "epochs": 1}
    run = play(lockstep(5, 6, **more), {RATER: 1})
    wait_end(run)
    assert_exact(run)
    assert_labels_as_answered(run)
    revisions = run.revisions()
    repeated = [each for each in revisions if each["again"]]
    assert repeated
    assert not {each["melody"] for each in repeated} & set(labels)
    names = [each["melody"] for each in revisions]
    assert [each["rating"] for each in revisions] == simulated(names)
    agreement = run.record("learning", "now")["agreement"]
    assert agreement == {"n": len(repeated), "exact": len(repeated), "absolute": 0}
