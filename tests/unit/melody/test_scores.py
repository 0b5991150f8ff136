"""Whose scores the learner goes by: those of the network as it is, never of one half trained."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from roomgrad import Message
from roomgrad.testing import Called, call
from roomgrad_melody.contract import CUSTOM, EVOLUTION_ROOM, GRADIENT, HEADS, TRAININPUT
from roomgrad_melody.genome import canonical, packed, random_genomes, texts
from roomgrad_melody.learner.handlers import component
from roomgrad_melody.learner.pool import Pool
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.learner.state import State, TrainingRun

SETTINGS = LearnerSettings(nr_of_unlabeled_data=10, again=0.0, ask="ratings")
MELODIES = canonical(random_genomes(0, 0, 20))


def last_batch_comes_home() -> Called:
    """A training run ends while a question for scores is open that was asked before it began."""
    labelled = canonical(random_genomes(1, 0, 1))
    state = State(
        labels=1,
        histogram=[1, 0, 0, 0, 0, 0],
        runs=1,
        steps=1,
        chain=TrainingRun(0, 1, 1),
        version="old",
        scoring="early",
    )
    pool = Pool.empty().add(MELODIES, SETTINGS.pool)
    training = {"genomes": packed(labelled), "ratings": np.array([0]), "weights": np.ones(1)}
    label = {"rating": 0, "rater": "anna", "strategy": None, "answer": "one", "root": "two"}
    return call(
        component,
        Message(TRAININPUT.name, GRADIENT.value, "home", "batch", np.zeros((4, 128), "<f4")),
        settings=SETTINGS,
        memory={
            "batch": {"ROOT_ID": "batch", "chain": 0, "step": 0},
            "early": {"ROOT_ID": "early", "scoring": len(MELODIES)},
        },
        tables={
            "learning": {"now": asdict(state), "pool": pool.record(), "training": training},
            "labels": {texts(labelled)[0]: label},
        },
    )


def scores(before: Called, root: str, version: str) -> Called:
    """evalnet answers a question for scores."""
    fields = {
        "GENOMES": MELODIES,
        "FITNESS": np.zeros(len(MELODIES)),
        "SCORES": np.full((len(MELODIES), HEADS), 2.5, "<f4"),
        "VERSION": version,
    }
    message = Message(EVOLUTION_ROOM.name, CUSTOM.value, "answer", root, fields=fields)
    return call(component, message, settings=SETTINGS, memory=before.memory, tables=before.tables)


def test_scores_that_a_training_run_overtook_are_asked_for_again() -> None:
    ended = last_batch_comes_home()
    [again] = ended.replies
    assert (again.room, set(again.fields)) == (EVOLUTION_ROOM.name, {"GENOMES"})
    late = scores(ended, "early", "half trained")
    assert late.replies == []
    assert "questions" not in late.tables
    assert "early" not in late.memory
    new = scores(late, again.root_id, "trained")
    assert {each["version"] for each in new.tables["questions"].values()} == {"trained"}
    assert new.memory == {}
