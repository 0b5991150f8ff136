"""Settings of the learner."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from roomgrad.settings import OfRun, RuntimeSettings, settings

from .strategy import DEFAULT, STRATEGIES
from .training import AUGMENT


@settings
class LearnerSettings(RuntimeSettings):
    """Whom the learner asks what, and how it trains the network with the answers."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Seed of the batches, of the candidates from outside, and of the strategy `random`."""

    epochs: Annotated[int, Field(ge=1, le=10_000), OfRun] = 10
    """How often a training run goes through all labels."""

    batch_size: Annotated[int, Field(ge=1, le=10_000), OfRun] = 20
    """Labels in a batch."""

    augment: Annotated[int, Field(ge=1, le=100), OfRun] = AUGMENT
    """Variants of each label in its batch, each with its bars in an order of its own."""

    strategy: Annotated[str, OfRun] = DEFAULT
    """How the melodies are chosen that a person is asked about."""

    active_labels: Annotated[int, Field(ge=1, le=1000), OfRun] = 5
    """Questions that are always open and held by nobody."""

    nr_of_unlabeled_data: Annotated[int, Field(ge=1, le=1_000_000), OfRun] = 200
    """Candidates, different by sound, that are gathered before the first question."""

    pool: Annotated[int, Field(ge=10, le=1_000_000), OfRun] = 1000
    """Candidates that are kept; older ones leave."""

    outside: Annotated[float, Field(ge=0, lt=1), OfRun] = 0.5
    """Share of the candidates that are not bred but random."""

    again: Annotated[float, Field(ge=0, le=1), OfRun] = 0.05
    """Share of the questions that repeat an earlier one, to see how far a person agrees."""

    labels_file: str = ""
    """CSV of labels with which a new run begins; a file that is not there is no error."""

    max_labels: Annotated[int, Field(ge=0, le=1_000_000_000), OfRun] = 0
    """Labels after which nothing is asked any more; 0: never."""

    lockstep: Annotated[bool, OfRun] = False
    """Breeding waits for answers and training, so that a run repeats bit for bit."""

    ask_every: Annotated[int, Field(ge=1, le=1_000_000), OfRun] = 1
    """In lock-step: generations between two rounds of questions."""

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in STRATEGIES:
            raise ValueError(f"one of {', '.join(STRATEGIES)}")
        return name
