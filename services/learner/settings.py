"""Settings of the learner."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from roomgrad.settings import OfRun, RuntimeSettings, settings

from .strategy import DEFAULT, PAIR_DEFAULT, PAIR_STRATEGIES, STRATEGIES


@settings
class LearnerSettings(RuntimeSettings):
    """What the learner asks raters, and how it trains the network on the answers."""

    seed: Annotated[int, Field(ge=0, lt=2**63), OfRun] = 0
    """Seed of the batches, of the random candidates, and of the strategy `random`."""

    epochs: Annotated[int, Field(ge=1, le=10_000), OfRun] = 10
    """Passes through all labels in a training run."""

    batch_size: Annotated[int, Field(ge=1, le=10_000), OfRun] = 20
    """Labels in a batch."""

    strategy: Annotated[str, OfRun] = DEFAULT
    """Query strategy: how the melodies that raters are asked about are chosen."""

    ask: Annotated[Literal["ratings", "pairs", "both"], OfRun] = "both"
    """What raters are asked: to rate a melody, which of two is better, or both in turn."""

    pair_strategy: Annotated[str, OfRun] = PAIR_DEFAULT
    """How the melodies are chosen that raters compare with the best one that was heard."""

    active_labels: Annotated[int, Field(ge=1, le=1000), OfRun] = 5
    """Open questions that no rater holds; the learner opens new ones to keep this number."""

    nr_of_unlabeled_data: Annotated[int, Field(ge=1, le=1_000_000), OfRun] = 200
    """Candidates before the first question; a run begins with so many of all kinds."""

    pool: Annotated[int, Field(ge=10, le=1_000_000), OfRun] = 1000
    """Candidates that are kept; the oldest are dropped."""

    outside: Annotated[float, Field(ge=0, lt=1), OfRun] = 0.5
    """Share of the candidates that are random instead of bred."""

    again: Annotated[float, Field(ge=0, le=1), OfRun] = 0.1
    """Share of the questions that repeat an earlier one, to measure how far raters agree."""

    labels_file: str = ""
    """CSV file of labels with which a new run begins; a missing file is not an error."""

    max_labels: Annotated[int, Field(ge=0, le=1_000_000_000), OfRun] = 0
    """Number of answers after which no more questions are asked; 0: no limit."""

    lockstep: Annotated[bool, OfRun] = False
    """Breeding waits for answers and training, so that a run is reproducible bit for bit."""

    ask_every: Annotated[int, Field(ge=1, le=1_000_000), OfRun] = 1
    """In lock-step: generations between two rounds of questions."""

    @field_validator("pair_strategy")
    @classmethod
    def _known_for_pairs(cls, name: str) -> str:
        if name not in PAIR_STRATEGIES:
            raise ValueError(f"one of {', '.join(PAIR_STRATEGIES)}")
        return name

    @field_validator("strategy")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in STRATEGIES:
            raise ValueError(f"one of {', '.join(STRATEGIES)}")
        return name
