"""The learner's state between two messages: three records of the table `learning`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from roomgrad import Context
from roomgrad_melody.contract import RATINGS
from roomgrad_melody.genome import BITS, packed, unpacked

from .pool import Pool
from .training import Answers

TABLE = "learning"
RECENT = 20  # melodies from which new questions keep a distance


@dataclass
class TrainingRun:
    """The open training run."""

    number: int
    batches: int
    labels: int
    batch: int = 0


@dataclass
class Agreement:
    """How far raters agreed with their own ratings when they were asked again."""

    n: int = 0
    exact: int = 0
    absolute: float = 0.0


@dataclass
class PairAgreement:
    """How often raters preferred the same when they were asked again about two melodies."""

    n: int = 0
    same: int = 0


@dataclass
class State:
    """The record `now` of the table `learning`; its fields are stored under these names.

    Each commit of the learner that changes labels, questions, pool or training reads this record
    and changes it. If two replicas do so at once, one of the commits fails and is retried, so the
    other records of these tables need no guards.
    """

    labels: int = 0
    pairs: int = 0
    """Votes of raters, each about two melodies."""

    histogram: list[int] = field(default_factory=lambda: [0] * RATINGS)
    asked: int = 0
    """Questions that are answered or open; withdrawn ones are not counted."""

    answered: int = 0
    rounds: int = 0
    """Rounds of questions so far."""

    runs: int = 0
    """Training runs so far."""

    steps: int = 0
    """Batches so far."""

    chain: TrainingRun | None = None
    """The open training run."""

    dirty: bool = False
    """Whether labels have changed since the last training run began."""

    version: str = ""
    """Version of the model that scored the pool."""

    scoring: str = ""
    """The root of the open request for scores; empty if there is none."""

    rerank: bool = False
    """Whether the open questions have to be chosen anew, as the network has changed."""

    gathered: int = 0
    """Draws of random candidates so far."""

    held: int | None = None
    """In lock-step: the generation that breeding waits with; -1 is before the first."""

    asked_at: int = -1
    """In lock-step: the last generation with a round of questions."""

    agreement: Agreement = field(default_factory=Agreement)
    pair_agreement: PairAgreement = field(default_factory=PairAgreement)
    repeated: int = 0
    """Questions so far that repeat an earlier one."""

    recent: list[str] = field(default_factory=list)
    """The melodies that were rated or compared last, oldest first."""

    surprises: list[float] = field(default_factory=list)
    """How far the last ratings were from their guesses, in variances."""

    age: float = 0.0
    """How many times the answers so far have halved the weight of a label of age 0."""

    writes: int = 0
    """Makes each record differ from the one before, so that the guard notices each write."""

    @property
    def answers(self) -> int:
        """The number of labels and votes from which the network can learn."""
        return self.labels + self.pairs

    def note_heard(self, melody: str) -> None:
        """Put a melody last among those that were rated or compared lately."""
        self.recent = [*(name for name in self.recent if name != melody), melody][-RECENT:]


def read(context: Context) -> State:
    """Return the state, a guard of the commit. Call it before any other read."""
    record = context.table(TABLE).get("now")
    if record is None:
        return State()
    training, agreement = record.pop("chain"), Agreement(**record.pop("agreement"))
    of_pairs = PairAgreement(**record.pop("pair_agreement", {}))
    chain = None if training is None else TrainingRun(**training)
    return State(chain=chain, agreement=agreement, pair_agreement=of_pairs, **record)


def write(state: State, context: Context) -> None:
    """Stage the state."""
    state.writes += 1
    context.table(TABLE).put("now", **asdict(state))


def read_pool(context: Context, name: str = "pool") -> Pool:
    """Return the candidates, or by the name `heard` the melodies that were heard."""
    return Pool.of(context.table(TABLE).get(name))


def write_pool(pool: Pool, context: Context, name: str = "pool") -> None:
    """Stage the candidates, or the melodies that were heard."""
    context.table(TABLE).put(name, **pool.record())


def read_training(context: Context) -> Answers:
    """Return what the last training run learns from."""
    record = context.table(TABLE).get("training") or {}
    none, empty = np.empty(0, np.int64), packed(np.empty((0, BITS), np.uint8))
    return Answers(
        unpacked(record.get("genomes", empty)),
        record.get("ratings", none),
        unpacked(record.get("firsts", empty)),
        unpacked(record.get("seconds", empty)),
        record.get("preferences", none),
        record.get("weights", np.empty(0)),
    )


def write_training(answers: Answers, context: Context) -> None:
    """Stage what the training run that begins learns from."""
    context.table(TABLE).put(
        "training",
        genomes=packed(answers.genomes),
        ratings=answers.ratings,
        firsts=packed(answers.firsts),
        seconds=packed(answers.seconds),
        preferences=answers.preferences,
        weights=answers.weights,
    )
