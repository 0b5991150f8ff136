"""Answers that fit the contract, field by field, and not each other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from roomgrad import Message
from roomgrad.errors import SchemaError
from roomgrad.testing import call
from roomgrad_melody.contract import CUSTOM, EVOLUTION_ROOM, HEADS
from roomgrad_melody.evolution.handlers import State as Generation
from roomgrad_melody.evolution.handlers import component as evolution
from roomgrad_melody.genome import canonical, packed, random_genomes
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.pool import Pool
from roomgrad_melody.learner.state import State

MELODIES = canonical(random_genomes(0, 0, 20))


def answer(**fields: Any) -> Message:
    return Message(EVOLUTION_ROOM.name, CUSTOM.value, "answer", "asked", fields=fields)


@pytest.mark.parametrize("count", [0, 1, 19, 21])
def test_ratings_of_another_number_of_melodies_are_not_bred_from(count: int) -> None:
    """evolution says how many it expected, and its population stays."""
    state = Generation(3, packed(MELODIES), np.empty(0))
    message = answer(GENOMES=MELODIES, FITNESS=np.zeros(count))
    memory = {"asked": {"ROOT_ID": "asked", "generation": 3}}
    with pytest.raises(SchemaError, match=rf"expected \(20,\) ratings .* got \({count},\)"):
        call(evolution, message, memory=memory, tables={"population": {"now": vars(state)}})


@pytest.mark.parametrize("count", [0, 1, 19, 21])
@pytest.mark.parametrize("asked", [True, False])
def test_scores_of_another_number_of_melodies_are_not_taken(count: int, asked: bool) -> None:
    """The learner keeps its candidates as they are, whoever was asked."""
    scores = np.full((count, HEADS), 2.5, "<f4")
    message = answer(
        GENOMES=MELODIES,
        FITNESS=np.zeros(20),
        SCORES=scores,
        VERSION="1-a",
        GENERATION=np.array(1),
    )
    state = State(version="1-a", scoring="asked")
    learning = {"now": asdict(state), "pool": Pool.empty().add(MELODIES, 100).record()}
    memory = {"asked": {"ROOT_ID": "asked", "scoring": 20}} if asked else {}
    with pytest.raises(SchemaError, match=r"expected \(20, 16\) for as many GENOMES"):
        call(learner, message, memory=memory, tables={"learning": learning})
