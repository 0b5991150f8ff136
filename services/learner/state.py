"""What the learner knows between two messages: `learning` in Redis, three records."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roomgrad import Context
from roomgrad_melody.contract import RATINGS
from roomgrad_melody.genome import Genomes, packed, unpacked

from .pool import Pool

TABLE = "learning"


@dataclass
class Chain:
    """A training run that is open."""

    number: int
    batches: int
    labels: int
    batch: int = 0


@dataclass
class Agreement:
    """How far people agreed with themselves when they were asked again."""

    n: int = 0
    exact: int = 0
    absolute: float = 0.0


@dataclass
class State:
    """`learning`, field `now`.

    Every commit of the learner that changes labels, questions, pool or training changes this
    record, which it read before: so of two replicas one is told to look again, and whatever else
    stands in those tables needs no guards.
    """

    labels: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * RATINGS)
    asked: int = 0
    """Questions that are answered or still open; those that were withdrawn are not counted."""

    answered: int = 0
    rounds: int = 0
    """How often questions were chosen."""

    runs: int = 0
    """Training runs that were opened so far."""

    steps: int = 0
    """Batches that were opened so far."""

    chain: Chain | None = None
    dirty: bool = False
    """Whether labels have changed since the last training run was opened."""

    version: str = ""
    """Of the model whose scores stand in the pool."""

    scoring: str = ""
    """The root of a question for scores that is not answered yet."""

    rerank: bool = False
    """Whether the open questions are to be chosen anew, since the network has changed."""

    gathered: int = 0
    """Generations that were seen; numbers the candidates from outside."""

    held: int | None = None
    """In lock-step: the generation from which nobody may breed yet. -1 stands before all."""

    asked_at: int = -1
    """In lock-step: the last generation at which something was asked."""

    agreement: Agreement = field(default_factory=Agreement)
    writes: int = 0
    """Makes each record different from the one before."""


@dataclass(frozen=True)
class Labels:
    """What a training run learns from: canonical melodies `(n, 128)`, and ratings `(n,)`."""

    genomes: Genomes
    ratings: NDArray[np.int64]


def read(context: Context) -> State:
    """The state, which is a guard of the commit. Read it before anything else."""
    record = context.table(TABLE).get("now")
    if record is None:
        return State()
    chain = record.pop("chain")
    agreement = record.pop("agreement")
    return State(
        chain=None if chain is None else Chain(**chain), agreement=Agreement(**agreement), **record
    )


def write(state: State, context: Context) -> None:
    """Stages the state."""
    state.writes += 1
    context.table(TABLE).put("now", **asdict(state))


def read_pool(context: Context) -> Pool:
    """The candidates."""
    return Pool.of(context.table(TABLE).get("pool"))


def write_pool(pool: Pool, context: Context) -> None:
    """Stages the candidates."""
    context.table(TABLE).put("pool", **pool.record())


def read_training(context: Context) -> Labels:
    """The labels as they were when the last training run was opened."""
    record: dict[str, Any] | None = context.table(TABLE).get("training")
    if record is None:
        return Labels(np.empty((0, 128), np.uint8), np.empty(0, np.int64))
    return Labels(unpacked(record["genomes"]), record["ratings"])


def write_training(labels: Labels, context: Context) -> None:
    """Stages the labels of the training run that is opened."""
    record = {"genomes": packed(labels.genomes), "ratings": labels.ratings}
    context.table(TABLE).put("training", **record)
